"""``/admin/adapters``: what is known of adapters, where they come from, what is done to them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from server.wire.lora import AdapterName
from server.wire.parameters import Inbound
from server.wire.runs import DatasetName


class RegisterRequest(Inbound, frozen=True, kw_only=True):
    """An adapter to be registered as ``name``: that of a run, or one in a directory.

    ``path`` is the absolute path of a directory below one that the server allows. ``assume_base``
    is for such a one: it belongs to the served base although its config calls that something else.
    """

    name: AdapterName
    run: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    path: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    replaces: bool = False
    assume_base: bool = False


class RenameRequest(Inbound, frozen=True, kw_only=True):
    """Another name for an adapter."""

    to: AdapterName


class RegisteredAdapter(Struct, frozen=True, kw_only=True):
    """What a name points to now: the hex SHA-256 of the adapter's content."""

    name: str
    digest: str


class MergeRequest(Inbound, frozen=True, kw_only=True):
    """A base named ``to`` to be made of an adapter and its own. ``dtype`` is that of the weights.

    What was written is compared with the adapter on ``dataset``, or on what it was trained on.
    """

    to: AdapterName
    dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    dataset: DatasetName | None = None


class EvaluationRequest(Inbound, frozen=True, kw_only=True):
    """What `lccc-admin evaluate` is told: which models, on what, and how much of it.

    ``models`` are adapters; ``includes_base``: the served base is measured before them.
    """

    models: Annotated[list[AdapterName], Meta(max_length=16)] = field(default_factory=list)
    includes_base: bool = False
    dataset: DatasetName
    split: Literal["test", "validation"] | None = None
    dialogues: Annotated[int, Meta(ge=0, le=10**9, description="0: all.")] = 1000
    replies: Annotated[int, Meta(ge=0, le=10**6)] = 100
    max_tokens: Annotated[int, Meta(ge=1, le=10**5)] = 100


class EvaluationCard(Struct, frozen=True, kw_only=True):
    """What was measured of a model on one split of a dataset, by the names of the figures.

    ``dialogues`` counts for likelihood, ``replies`` for what is about texts; ``conditions`` says
    how replies were made. ``measured`` is Unix seconds.
    """

    dataset: str
    dataset_sha256: str
    split: str
    dialogues: int
    replies: int
    conditions: str
    measured: int
    metrics: dict[str, float]


class BaseCard(Struct, frozen=True, kw_only=True):
    """The served base: its shape, what computes it, and the bytes of its files.

    ``evaluations`` is what was measured of it, the oldest first.
    """

    name: str
    path: str
    kind: str
    layers: int
    hidden_size: int
    vocab_size: int
    context_length: int
    size_bytes: int
    weights_sha256: str
    tokenizer_sha256: str
    template_sha256: str
    device: str
    weights: str
    evaluations: list[EvaluationCard]


class AdapterRun(Struct, frozen=True, kw_only=True):
    """The training that made an adapter."""

    id: str
    dataset: str
    steps: int


class AdapterCard(Struct, frozen=True, kw_only=True):
    """A registered adapter.

    ``metrics`` are figures of its training, ``evaluations`` what was measured later, the oldest
    first. ``is_resident``: it is in memory. ``requests`` counts replies that were asked of this
    name since the server's start.
    """

    name: str
    digest: str
    created: int
    base: str
    rank: int
    alpha: float
    targets: list[str]
    run: AdapterRun | None
    metrics: dict[str, float]
    size_bytes: int
    is_resident: bool
    requests: int
    evaluations: list[EvaluationCard]


class AdapterList(Struct, frozen=True, kw_only=True):
    """The base, its adapters by name, and why names are broken.

    Under the base's own name stands why what was measured of it cannot be read.
    """

    base: BaseCard
    data: list[AdapterCard]
    broken: dict[str, str]
    object: Literal["list"] = "list"
