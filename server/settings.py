"""What the server is started with: one frozen value, read once at the edge and passed down."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from adapters.base import DEFAULT_BASE
from adapters.errors import LcccError
from adapters.home import Home

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Secret = Annotated[str, Meta(pattern="^[!-~]*$")]
Seconds = Annotated[float, Meta(gt=0)]
Weights = Literal["auto", "fp32", "bf16", "int8", "nf4"]
Kernels = Literal["auto", "native", "torch"]
Device = Literal["auto", "cpu", "cuda"]

PREFIX = "LCCC_"


class SettingsInvalid(LcccError):
    """A setting has an impossible value; the message names it."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a server needs to know before it starts.

    ``None`` for an engine limit leaves the engine its own default. ``port`` 0 takes any free port;
    ``port_search`` is how many following ports are tried when ``port`` is taken.
    ``allowed_hosts`` are further names that clients may call this server by;
    ``api_key`` is a further key, of this server alone, beside those of home, and ``admin_key`` one
    that may do everything.
    ``allow_unauthenticated`` lets it listen beyond loopback although there is no key at all.
    ``adapter_roots``: below these directories, and the runs of home, clients with an admin key may
    name adapters to be registered.
    """

    home: Home
    base: str = DEFAULT_BASE
    host: str = "127.0.0.1"
    port: Port = 8000
    port_search: Annotated[int, Meta(ge=0, le=1000)] = 0
    allowed_hosts: tuple[str, ...] = ()
    api_key: Secret = ""
    admin_key: Secret = ""
    allow_unauthenticated: bool = False
    adapter_roots: tuple[Path, ...] = ()

    weights: Weights = "auto"
    device: Device = "auto"
    kernels: Kernels = "auto"
    max_running: Count | None = None
    max_waiting: Annotated[int, Meta(ge=0)] | None = None
    max_context: Annotated[int, Meta(ge=2)] | None = None
    kv_cache_tokens: Count | None = None
    prefix_cache: bool = True
    speculative_tokens: Annotated[int, Meta(ge=0)] = 0

    max_body_bytes: Count = 2_000_000
    ping_interval_s: Seconds = 15.0
    send_timeout_s: Seconds = 60.0
    header_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 60.0
    drain_timeout_s: Annotated[float, Meta(ge=0)] = 30.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ServerSettings:
        """``LCCC_BASE``, ``LCCC_PORT`` and so on.

        ``LCCC_ALLOWED_HOSTS`` is separated by commas, ``LCCC_ADAPTER_ROOTS`` as ``PATH`` is.

        Raises:
            SettingsInvalid: a value is no number where one is needed, or out of range.
        """
        given: dict[str, object] = {
            name: environment[PREFIX + name.upper()]
            for name in cls.__struct_fields__
            if name != "home" and environment.get(PREFIX + name.upper())
        }
        if "allowed_hosts" in given:
            hosts = str(given["allowed_hosts"]).split(",")
            given["allowed_hosts"] = [host.strip() for host in hosts if host.strip()]
        if "adapter_roots" in given:
            roots = str(given["adapter_roots"]).split(os.pathsep)
            given["adapter_roots"] = [Path(root).expanduser() for root in roots if root]
        given["home"] = Home.from_environment(environment)
        return checked(given)

    @property
    def is_loopback(self) -> bool:
        """True where only this machine can connect."""
        return is_loopback(self.host)

    @property
    def may_be_open(self) -> bool:
        """True where everyone who can connect may use it as long as there is no key."""
        return self.is_loopback or self.allow_unauthenticated


def checked(values: Mapping[str, object]) -> ServerSettings:
    """Settings from loosely typed values (text from the environment or the command line).

    Raises:
        SettingsInvalid: naming the setting.
    """
    try:
        return msgspec.convert(values, ServerSettings, strict=False)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`") or "settings"
        raise SettingsInvalid(f"{name} ({PREFIX}{name.upper()}): {reason}.") from error


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` names this machine's loopback interface."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
