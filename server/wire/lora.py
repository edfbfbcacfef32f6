"""``POST /v1/load_lora_adapter`` and ``/v1/unload_lora_adapter``, as vLLM has them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from server.wire.parameters import Inbound

AdapterName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        description="What clients call it, as `model`.",
        # For the document alone: the registry has better words for who breaks it.
        extra_json_schema={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
    ),
]


class LoadAdapterRequest(Inbound, frozen=True, kw_only=True):
    """An adapter on the server's disk, to be registered.

    ``lora_path`` is the absolute path of a directory below one that the server allows.
    ``load_inplace`` replaces an adapter of this name; without it the name has to be free.
    ``assume_base``: the adapter belongs to the served base although its config calls that base
    something else. Not in vLLM.
    """

    lora_name: AdapterName
    lora_path: Annotated[str, Meta(min_length=1, max_length=4096)]
    load_inplace: bool | None = None
    assume_base: bool | None = None


class UnloadAdapterRequest(Inbound, frozen=True, kw_only=True):
    """An adapter by name."""

    lora_name: AdapterName
