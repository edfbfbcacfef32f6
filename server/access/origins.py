"""Who may talk to this server from where: the Host, Origin and content type of a request.

A web page can make its visitor's browser send requests to 127.0.0.1, under a host name that it
controls (DNS rebinding) or without any preflight (plain forms). These checks refuse both.
Header names are lower-case, values as received.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from server.errors import Problem
from server.settings import ServerSettings

Headers = Iterable[tuple[bytes, bytes]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD"})


class HostPolicy:
    """Which names this server answers to.

    Loopback names and the configured ones; bound to more than loopback, also any IP address,
    because an attacker's page cannot have an address as its name.
    """

    def __init__(self, settings: ServerSettings) -> None:
        configured = {host.strip().lower() for host in settings.allowed_hosts}
        self._names = LOOPBACK_NAMES | configured | {settings.host.lower()}
        self._is_any_address_allowed = not settings.is_loopback

    def refusal(self, method: str, headers: Headers) -> Problem | None:
        """Why this request must not be served, or ``None``."""
        found = list(headers)
        hosts = _values(found, b"host")
        if len(hosts) != 1:
            return Problem(status=400, message="Exactly one Host header is needed.")
        if not self.allows(host_name(hosts[0])):
            return Problem(
                status=421,
                message="This server does not answer to that Host; see `--allowed-host`.",
                code="host_not_allowed",
            )
        if _is_cross_site(method, hosts[0], found):
            return Problem(
                status=403,
                message="Requests from web pages of other origins are refused.",
                code="origin_not_allowed",
            )
        return None

    def allows(self, name: str) -> bool:
        """Tell whether ``name`` (lower-case, without port) is one of this server's."""
        return name in self._names or (self._is_any_address_allowed and _is_address(name))


def host_name(host: str) -> str:
    """The name in a Host header: lower-case, without port and IPv6 brackets."""
    lowered = host.strip().lower()
    if lowered.startswith("["):
        return lowered[1:].partition("]")[0]
    return lowered.partition(":")[0]


def _is_cross_site(method: str, host: str, headers: list[tuple[bytes, bytes]]) -> bool:
    origins = _values(headers, b"origin")
    if origins:
        return any(_authority(origin) != host.strip().lower() for origin in origins)
    site = _values(headers, b"sec-fetch-site")
    return method not in SAFE_METHODS and "cross-site" in site


def _authority(origin: str) -> str:
    """``host:port`` of an Origin; ``null`` and other oddities give what no Host equals."""
    scheme, separator, authority = origin.strip().lower().partition("://")
    return authority if separator and scheme in ("http", "https") else "null origin"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


async def require_json(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A Litestar guard: bodies are plain JSON, which no web form can send.

    Raises:
        HTTPException: 415.
    """
    if connection.scope.get("method") in SAFE_METHODS | {"OPTIONS", "DELETE"}:
        return
    content_type = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HTTPException(
            status_code=415, detail="The body has to be JSON: send content-type: application/json."
        )
    if connection.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(status_code=415, detail="Compressed bodies are not accepted.")
