"""Names that nobody can guess."""

from __future__ import annotations

import secrets

_BYTES = 24


def new_id(kind: str) -> str:
    """An id such as ``resp_…``, of 192 random bits."""
    return f"{kind}_{secrets.token_hex(_BYTES)}"
