"""A server in a thread of this process: for the demo, and for tests over real connections."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from adapters.environment import go_offline, prepare_environment
from server.app import local_engine
from server.engine.types import Engine
from server.process import (
    DrainingServer,
    Serving,
    listen,
    serve,
)
from server.settings import ServerSettings


@contextmanager
def serve_in_thread(settings: ServerSettings, engine: Engine | None = None) -> Iterator[Serving]:
    """Serve while the block runs; port 0 of ``settings`` takes any free one.

    At the end running streams may finish for ``settings.drain_timeout_s``.

    Raises:
        PortTaken, CannotListen: before anything is started.
        Exception: whatever kept the engine from starting.
    """
    prepare_environment(os.environ)
    go_offline(os.environ)
    ready: Future[Serving] = Future()
    with listen(settings) as listener:
        server = DrainingServer(settings, engine or local_engine(settings), ready.set_result)
        thread = threading.Thread(
            target=_work, args=(server, listener, ready), name="lccc-server", daemon=True
        )
        thread.start()
        try:
            yield ready.result()
        finally:
            server.should_exit = True
            thread.join()


def _work(server: DrainingServer, listener: socket.socket, ready: Future[Serving]) -> None:
    """Run in the thread; what keeps the server from getting ready goes to whoever waits."""
    try:
        asyncio.run(serve(server, listener))
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)
    else:
        if not ready.done():
            ready.set_exception(RuntimeError("the server ended before it was ready"))
