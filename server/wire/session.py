"""``/admin/session``: signing in to the console."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from server.wire.parameters import Inbound


class SignIn(Inbound, frozen=True, kw_only=True):
    """``key``: an admin key, or the token that `lccc-admin serve` printed."""

    key: Annotated[str, Meta(min_length=1, max_length=512)]


class OpenSession(Struct, frozen=True, kw_only=True):
    """``name`` of the key that it was opened with; ``expires`` is Unix seconds."""

    name: str
    expires: int
