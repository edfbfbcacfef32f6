"""Who has a key: the Authorization header of a request, against the keys of home and our own."""

from __future__ import annotations

import logging
import os

from adapters.keyring import Key, Keyring, KeyringUnreadable, Scope, find, hashed
from server.access.origins import Headers
from server.access.sessions import MEANT, Sessions, is_meant
from server.errors import Problem, Refused
from server.settings import ServerSettings

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]
_HOW = "Send the header `authorization: Bearer KEY`."
_CHALLENGE = {"www-authenticate": "Bearer"}

MISSING = Problem(
    status=401,
    message=f"A key is needed. {_HOW}",
    code="missing_api_key",
    headers=_CHALLENGE,
)
ADMIN_MISSING = Problem(
    status=401,
    message="An admin key is needed, also on this machine: make one with `lccc-admin keys create "
    f"NAME --scope admin`, or take the token that `lccc-admin serve` printed. {_HOW}",
    code="missing_api_key",
    headers=_CHALLENGE,
)
INVALID = Problem(
    status=401,
    message="The key is not valid: it was revoked, or never made by `lccc-admin keys create`.",
    code="invalid_api_key",
    headers=_CHALLENGE,
)
INSUFFICIENT = Problem(
    status=403,
    message="The key is for inference; an admin key is needed, made by `lccc-admin keys create "
    "NAME --scope admin`.",
    code="insufficient_scope",
    headers={"www-authenticate": 'Bearer error="insufficient_scope", scope="admin"'},  # RFC 6750
)
UNMEANT = Problem(
    status=403,
    message=f"A request with a session's cookie also needs the header `{MEANT.decode()}: 1`.",
    code="csrf_header_missing",
)
UNREADABLE = Problem(
    status=503,
    message="The server cannot read its keys, so nobody is let in; its log says more.",
    type="server_error",
    code="keys_unreadable",
)


class Doorkeeper:
    """Lets in who has a key, and to inference everyone where that is allowed and there are no keys.

    ``token`` is the secret of one server process: it opens everything as long as that runs, and is
    no key, so that it takes nobody's free entry away. Only its hash is kept.
    The file of the keys is looked at for every request, so that a new or revoked key holds at once;
    where there was one and it is gone, nobody is let in.
    A browser shows, instead of a key, the cookie of one of ``sessions``, which lasts as long as the
    key that it was opened with.
    """

    def __init__(self, settings: ServerSettings, *, token: str = "") -> None:
        self.sessions = Sessions()
        self._keyring = Keyring(settings.home.keys)
        self._own = own_keys(settings)
        self._token = (_own_key("the token", token, "admin"),) if token else ()
        self._may_be_open = settings.may_be_open
        self._stamp: _Stamp | None = None
        self._keys: tuple[Key, ...] = ()

    def refusal(
        self, needed: Scope, headers: Headers, *, changes_nothing: bool = True
    ) -> Problem | None:
        """Why a request for something that takes ``needed`` is not served, or ``None``.

        Where it may change something, a cookie alone does not do: browsers send it by themselves.
        """
        headers = list(headers)
        try:
            keys = self._own + self._current()
        except KeyringUnreadable as error:
            logger.error("%s", error)  # noqa: TRY400 - its text says all
            return UNREADABLE
        if needed == "inference" and not keys and self._may_be_open:
            return None
        given = [value for name, value in headers if name == b"authorization"]
        if given:
            secret = bearer(given[0]) if len(given) == 1 else None
            found = find(keys + self._token, secret) if secret else None
        elif session := self.sessions.find(headers):
            if not changes_nothing and not is_meant(headers):
                return UNMEANT
            found = next(
                (key for key in keys + self._token if key.sha256 == session.key_sha256), None
            )
        else:
            return ADMIN_MISSING if needed == "admin" else MISSING
        if found is None:
            return INVALID
        return None if found.may(needed) else INSUFFICIENT

    def key_of(self, secret: str) -> Key:
        """The valid key that ``secret`` is, the token included.

        Raises:
            Refused: 401, or 503 where that cannot be told.
        """
        try:
            found = find(self._own + self._current() + self._token, secret.encode())
        except KeyringUnreadable as error:
            logger.error("%s", error)  # noqa: TRY400 - its text says all
            raise Refused(UNREADABLE) from error
        if found is None:
            raise Refused(INVALID)
        return found

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
        except FileNotFoundError as error:
            if self._keys:  # to revoke the last leaves a file without any: this is an accident
                reason = "it is gone; bring it back, or start the server again to do without keys"
                raise KeyringUnreadable(self._keyring.path, reason) from error
            return ()
        except OSError as error:
            raise KeyringUnreadable(self._keyring.path, str(error)) from error
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp != self._stamp:
            self._keys = self._keyring.keys()
            self._stamp = stamp
        return self._keys


def own_keys(settings: ServerSettings) -> tuple[Key, ...]:
    """The keys that were given to this server alone; one that is both is found as admin's."""
    given: tuple[tuple[str, str, Scope], ...] = (
        ("--admin-key", settings.admin_key, "admin"),
        ("--api-key", settings.api_key, "inference"),
    )
    return tuple(_own_key(name, secret, scope) for name, secret, scope in given if secret)


def _own_key(name: str, secret: str, scope: Scope) -> Key:
    return Key(name=name, begins="", created=0, sha256=hashed(secret.encode()), scope=scope)


def bearer(header: bytes) -> bytes | None:
    """The token of ``Bearer TOKEN`` (RFC 6750); ``None`` if it is anything else."""
    scheme, _, token = header.strip().partition(b" ")
    return token.strip() or None if scheme.lower() == b"bearer" else None
