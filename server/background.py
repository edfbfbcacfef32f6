"""A server in a thread of this process: for the demo, and for tests over real connections."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from server.app import local_engine
from server.engine.types import Engine
from server.process import DrainingServer, Serving, base_url, listen, prepare_environment, serve
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
    listener = listen(settings)
    url = base_url(settings.host, listener)
    is_ready = threading.Event()
    server = DrainingServer(settings, engine or local_engine(settings), is_ready.set)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(serve(server, listener))
        except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
            failures.append(error)
        finally:
            is_ready.set()

    thread = threading.Thread(target=work, name="lccc-server", daemon=True)
    thread.start()
    try:
        is_ready.wait()
        if failures:
            raise failures[0]
        yield Serving(base_url=url, models=tuple(server.engine.models()))
    finally:
        server.should_exit = True
        thread.join()
