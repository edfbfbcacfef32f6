"""Who has a key: the Authorization header of every request, against the keys of home."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

from adapters.keyring import Key, Keyring, KeyringUnreadable, find, hashed
from server.errors import Problem
from server.settings import ServerSettings

logger = logging.getLogger(__name__)

# Answers to probes, which have no keys.
FREE_PATHS = frozenset({"/health", "/ready"})

_Stamp = tuple[int, int, int]
_HOW = "Send the header `authorization: Bearer KEY`."
_CHALLENGE = {"www-authenticate": "Bearer"}

MISSING = Problem(
    status=401,
    message=f"A key is needed. {_HOW}",
    code="missing_api_key",
    headers=_CHALLENGE,
)
INVALID = Problem(
    status=401,
    message="The key is not valid: it was revoked, or never made by `lccc-admin keys create`.",
    code="invalid_api_key",
    headers=_CHALLENGE,
)
UNREADABLE = Problem(
    status=503,
    message="The server cannot read its keys, so nobody is let in; its log says more.",
    type="server_error",
    code="keys_unreadable",
)


class Doorkeeper:
    """Lets in who has a key, or everyone where that is allowed and there are no keys.

    The file of the keys is looked at for every request, so that a new or revoked key holds at once.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._keyring = Keyring(settings.home.keys)
        self._own = own_keys(settings)
        self._may_be_open = settings.may_be_open
        self._stamp: _Stamp | None = None
        self._keys: tuple[Key, ...] = ()

    def refusal(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
        """Why this request must not be served, or ``None``."""
        if path in FREE_PATHS:
            return None
        try:
            keys = self._own + self._current()
        except KeyringUnreadable as error:
            logger.error("%s", error)  # noqa: TRY400 - its text says all
            return UNREADABLE
        if not keys and self._may_be_open:
            return None
        given = [value for name, value in headers if name == b"authorization"]
        if not given:
            return MISSING
        secret = bearer(given[0]) if len(given) == 1 else None
        return None if secret and find(keys, secret) else INVALID

    @property
    def has_keys(self) -> bool:
        """Whether there is any key.

        Raises:
            KeyringUnreadable: nobody can tell.
        """
        return bool(self._own or self._current())

    def _current(self) -> tuple[Key, ...]:
        try:
            status = os.stat(self._keyring.path, follow_symlinks=False)  # noqa: PTH116 - one call
        except FileNotFoundError:
            self._stamp, self._keys = None, ()
            return ()
        except OSError as error:
            raise KeyringUnreadable(self._keyring.path, str(error)) from error
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp != self._stamp:
            self._keys = self._keyring.keys()
            self._stamp = stamp
        return self._keys


def own_keys(settings: ServerSettings) -> tuple[Key, ...]:
    """The key that was given to this server alone, if any."""
    if not settings.api_key:
        return ()
    return (Key(name="--api-key", begins="", created=0, sha256=hashed(settings.api_key.encode())),)


def bearer(header: bytes) -> bytes | None:
    """The token of ``Bearer TOKEN`` (RFC 6750); ``None`` if it is anything else."""
    scheme, _, token = header.strip().partition(b" ")
    return token.strip() or None if scheme.lower() == b"bearer" else None
