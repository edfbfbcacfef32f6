"""Browsers that have signed in: a cookie in place of a key.

The cookie is HttpOnly and SameSite=Strict, so that no page's script can read it and no other site's
page can have it sent (RFC 6265bis). What may change something needs a header besides, which no form
can send (OWASP, Cross-Site Request Forgery Prevention, "Custom request headers").
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from adapters.keyring import Key, hashed
from server.access.origins import Headers

LONGEST_S = 7 * 24 * 3600
MOST = 256
MEANT = b"x-lccc-csrf"


@dataclass(frozen=True, slots=True)
class Session:
    """Opened with the key called ``name``; over at ``ends_s``, or when the key is revoked."""

    name: str
    key_sha256: str
    ends_s: float


class Sessions:
    """The open sessions of one server, at most :data:`MOST`, in memory only."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._open: OrderedDict[str, Session] = OrderedDict()

    def open(self, key: Key) -> tuple[str, Session]:
        """A new session of who has ``key``, and the secret that its cookie holds."""
        secret = secrets.token_urlsafe(32)
        session = Session(key.name, key.sha256, self._clock() + LONGEST_S)
        self._open[hashed(secret.encode())] = session
        if len(self._open) > MOST:
            self._open.popitem(last=False)
        return secret, session

    def find(self, headers: Headers) -> Session | None:
        """The session whose cookie a request brings, if that is not over."""
        secret = _cookie(headers)
        session = self._open.get(hashed(secret.encode())) if secret else None
        if session is None or session.ends_s <= self._clock():
            return None
        return session

    def close(self, headers: Headers) -> None:
        """End the session whose cookie a request brings."""
        if secret := _cookie(headers):
            self._open.pop(hashed(secret.encode()), None)


def is_meant(headers: Headers) -> bool:
    """Whether a script of ours sent this, and not a form of somebody's page."""
    return any(name == MEANT for name, _ in headers)


def cookie_name(headers: Headers) -> str:
    """Browsers keep one set of cookies for all ports of a host; the port keeps servers apart."""
    host = next((value for name, value in headers if name == b"host"), b"")
    port = host.decode("latin-1").rpartition(":")[2]
    return f"lccc_session_{port}" if port.isdecimal() and port.isascii() else "lccc_session"


def cookie(headers: Headers, secret: str, seconds: int) -> str:
    """The header ``set-cookie``; with no seconds it takes the cookie away."""
    attributes = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return f"{cookie_name(headers)}={secret}; {attributes}"


def _cookie(headers: Headers) -> str:
    """Our cookie's value, whatever stands beside it.

    Others on the same host set cookies that no grammar has, JSON for example, and browsers send
    those too. So this reads a header as browsers write it: pairs between semicolons, a name to the
    first equals sign (RFC 6265bis, section 5.8.3, "the cookie-string").
    """
    headers = list(headers)
    name = cookie_name(headers)
    for key, value in headers:
        if key == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                its_name, _, secret = pair.partition("=")
                if its_name.strip() == name:
                    return secret.strip()
    return ""
