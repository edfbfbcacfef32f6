"""``/admin/adapters``: adapters come from runs, change their names, and go."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from server.wire.lora import AdapterName
from server.wire.parameters import Inbound


class RegisterRequest(Inbound, frozen=True, kw_only=True):
    """The adapter that a run has made, to be registered as ``name``."""

    name: AdapterName
    run: Annotated[str, Meta(min_length=1, max_length=256)]
    replaces: bool = False


class RenameRequest(Inbound, frozen=True, kw_only=True):
    """Another name for an adapter."""

    to: AdapterName


class RegisteredAdapter(Struct, frozen=True, kw_only=True):
    """What a name points to now: the hex SHA-256 of the adapter's content."""

    name: str
    digest: str
