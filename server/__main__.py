"""``python -m server``: serve with settings from the environment until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable

from adapters.environment import go_offline, prepare_environment
from adapters.errors import LcccError
from server.app import local_engine
from server.engine.types import Engine
from server.process import (
    DrainingServer,
    OnReady,
    Serving,
    listen,
    serve,
)
from server.settings import ServerSettings


def run(
    settings: ServerSettings,
    *,
    engine: Engine | None = None,
    prepare: Callable[[], object] | None = None,
    on_ready: OnReady | None = None,
    log_level: str = "warning",
) -> None:
    """Serve until SIGTERM or SIGINT. ``on_ready`` is told where, once requests are accepted.

    ``prepare`` is called when the port is ours and before the model is loaded: the place to build
    or download a base, which nobody wants to wait for only to learn that the port is taken.

    Without an ``engine`` the one of ``settings`` runs in this process.

    Raises:
        LcccError: the base is not usable, the port is taken, the engine cannot start, or it has
            ended because of an error.
    """
    prepare_environment(os.environ)  # before torch is imported, which local_engine does
    _log_to_stderr(log_level.upper())
    with listen(settings) as listener:
        if prepare is not None:
            prepare()
        go_offline(os.environ)
        server = DrainingServer(settings, engine or local_engine(settings), on_ready)
        asyncio.run(serve(server, listener))


def _log_to_stderr(level: str) -> None:
    """The handler has the level too, because the console's log book has ours tell more."""
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setLevel(level)
    form = "%(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level, handlers=[stderr], format=form)


def main() -> int:
    """Serve; expected failures are one line on stderr and exit code 1."""
    try:
        run(ServerSettings.from_environment(os.environ), on_ready=_say)
    except LcccError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


def _say(serving: Serving) -> None:
    sys.stderr.write(f"Serving {len(serving.models)} models at {serving.api_url}\n")
    sys.stderr.write(f"One-time token (an admin key until this server ends): {serving.token}\n")


if __name__ == "__main__":
    sys.exit(main())
