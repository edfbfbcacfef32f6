"""What ``/v1/models`` and the health endpoints answer."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Sampling(Struct, frozen=True, kw_only=True):
    """What a request to this model gets for each parameter it leaves out; null: the neutral one."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None


class Model(Struct, frozen=True, kw_only=True):
    """A served model: the base (``parent`` null) or an adapter on it.

    ``created`` is Unix seconds of its registration, ``digest`` the hash of its content, empty where
    that cannot be read; ``root`` is the base's name, or the adapter's hash. ``sampling`` is what
    holds for a request that says nothing: the adapter's own, else the base's.
    ``state`` is ``loading`` while the adapter is read into memory for a request, which waits for
    it; ``reason`` says why it is ``broken``.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "lccc-chat"
    root: str
    parent: str | None
    max_model_len: int
    digest: str
    rank: int | None
    state: Literal["ready", "loading", "broken"]
    reason: str | None
    sampling: Sampling
    system_prompt: str | None


class ModelList(Struct, frozen=True, kw_only=True):
    """The base first, then the adapters by name."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(Struct, frozen=True, kw_only=True):
    """``ok``: the process answers. ``ready``: it can serve."""

    status: Literal["ok", "ready"]


class Version(Struct, frozen=True, kw_only=True):
    """Of the package."""

    version: str
