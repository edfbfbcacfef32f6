"""One server process: its environment, its socket, and its orderly end.

The first SIGTERM or SIGINT stops accepting and lets running streams finish for a while; a second
one ends them now. Either way they end with a proper frame and the engine is closed.
An engine that has ended by itself ends the process too, for whoever watches it to start it again.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

import uvicorn

from adapters.errors import LcccError
from adapters.keyring import new_secret
from server.access.doorkeeper import Doorkeeper
from server.app import create_app
from server.engine.types import Engine, ModelCard
from server.http.page_protocol import page_protocol
from server.http.protocol import with_deadlines
from server.http.shortage import Shortage
from server.settings import ServerSettings

FAREWELL_S = 2.0
_TICK_S = 0.05
_BACKLOG = 2048
# asyncio tries so often in a row, also where no file descriptor is left, and reports each time.
_ACCEPTED_TOGETHER = 16
# Idle connections are kept for longer than clients (httpx: 5 s) and proxies (60 s) keep them: else
# we may close one just when a request comes, which its client then finds broken off.
_KEEP_ALIVE_S = 75
_LARGEST_MESSAGE = 64 << 10  # bytes, of what pages send; they ask and upload nothing


class PortTaken(LcccError):
    """Nothing can listen on the port that was asked for."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} on {host} is taken. "
            "Stop what uses it, choose another with --port, or let --port 0 find a free one."
        )


class CannotListen(LcccError):
    """The address cannot be used at all."""


class Exposed(LcccError):
    """The server would be open to the network without any key."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"Listening on {host} would let everyone on the network use this server: there is no "
            "key. Make one with `lccc-admin keys create NAME`; or, if that is what you want, say "
            "--allow-unauthenticated (LCCC_ALLOW_UNAUTHENTICATED=1)."
        )


class EngineBroken(LcccError):
    """The engine has ended although nobody closed it."""

    def __init__(self) -> None:
        super().__init__(
            "The engine has ended because of an error, which stands above, and so does the server. "
            "Clients were told; what is registered and stored is as it was. Start it again."
        )


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Where a running server answers, and with what. ``token`` is its own admin key."""

    base_url: str
    models: tuple[ModelCard, ...]
    token: str = field(default="", repr=False)

    @property
    def api_url(self) -> str:
        """The address that OpenAI clients take as ``base_url``."""
        return f"{self.base_url}/v1"


OnReady = Callable[[Serving], None]


def listen(settings: ServerSettings) -> socket.socket:
    """A listening socket on the port of ``settings``, or on one of ``port_search`` following it.

    Listening begins before the model is loaded, so that a taken port is known at once; clients
    that come early wait.

    Raises:
        Exposed: others could connect without a key, and the settings do not say that they may.
        KeyringUnreadable: whether there is a key cannot be told.
        PortTaken: all of them are in use.
        CannotListen: the address is not one of this machine, or the port needs privileges.
    """
    if not settings.may_be_open and not Doorkeeper(settings).has_keys:
        raise Exposed(settings.host)
    last = min(settings.port + settings.port_search, 65535)
    for port in range(settings.port, last + 1):
        try:
            return _listen_on(settings.host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise CannotListen(f"Cannot listen on {settings.host}:{port}: {error}.") from error
    raise PortTaken(settings.host, settings.port)


def _listen_on(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # there it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def base_url(host: str, listener: socket.socket) -> str:
    """How clients on this machine reach ``listener``."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # no bind here
    port = listener.getsockname()[1]
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


async def serve(server: DrainingServer, listener: socket.socket) -> None:
    """Start the engine, serve until told to stop, and close the engine whatever happens.

    Raises:
        EngineBroken: nobody told it to stop, but the engine cannot go on.
    """
    try:
        await server.engine.start()
        await server.serve(sockets=[listener])
    finally:
        await server.engine.close()
    if server.is_broken:
        raise EngineBroken


class DrainingServer(uvicorn.Server):
    """A uvicorn server that ends as the module describes.

    ``on_ready`` is called on the event loop once requests are accepted. It is told a token that
    is made here and opens everything until this server ends, so that who started it may act
    without a key at home. It ``is_broken`` when it ends because the engine has.
    """

    def __init__(
        self,
        settings: ServerSettings,
        engine: Engine,
        on_ready: OnReady | None,
    ) -> None:
        self.engine = engine
        self.is_broken = False
        self._on_ready = on_ready
        self._token = new_secret()
        self._host = settings.host
        self._drain_timeout_s = settings.drain_timeout_s
        self._is_hurried = False
        config = uvicorn.Config(
            create_app(settings, engine=engine, token=self._token),
            http=with_deadlines(
                settings.header_timeout_s, settings.body_timeout_s, settings.send_timeout_s
            ),
            ws=page_protocol(settings.send_timeout_s),
            ws_max_size=_LARGEST_MESSAGE,
            ws_per_message_deflate=False,  # what it costs in memory a page is not worth it
            loop="asyncio",
            lifespan="on",
            backlog=_ACCEPTED_TOGETHER,
            log_config=None,
            log_level=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=round(settings.drain_timeout_s + 2 * FAREWELL_S) + 1,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # signature
        """First signal: drain. Second: end the streams now. Third: drop everything."""
        self.force_exit = self._is_hurried
        self._is_hurried = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn, then say so."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)  # uvicorn has taken the other for this
        asyncio.get_running_loop().set_exception_handler(Shortage())
        if self.started and self._on_ready is not None and sockets:
            url = base_url(self._host, sockets[0])
            models = tuple(self.engine.models())
            self._on_ready(Serving(base_url=url, models=models, token=self._token))

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn, ten times a second; without an engine there is nothing to serve."""
        self.is_broken = not self.should_exit and not self.engine.is_ready
        return await super().on_tick(counter) or self.is_broken

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn, with a limit on how long running streams may take."""
        limit = asyncio.create_task(self._end_streams())
        try:
            await super().shutdown(sockets)
        finally:
            limit.cancel()

    async def _end_streams(self) -> None:
        """When the time is up: close the engine, so that every stream says why it ends."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._drain_timeout_s
        while loop.time() < deadline_s and not self._is_hurried:  # noqa: ASYNC110  # set by signals
            await asyncio.sleep(_TICK_S)
        await self.engine.close()
        await asyncio.sleep(FAREWELL_S)
        self.force_exit = True  # whoever has not read its last frame by now is cut off
