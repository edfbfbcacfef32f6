"""An engine served over HTTP in this process, to clients in another one."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from admin.bench.errors import BenchFailed
from admin.bench.http_client import full_length
from admin.bench.workload import Prompter
from admin.context import AdminContext

if TYPE_CHECKING:
    from server.engine.engine import LocalEngine
    from server.process import Serving

_REQUEST = (
    "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
)


@dataclass(frozen=True)
class Clients:
    """Those in the other process. ``key`` lets them in."""

    key: str
    process: asyncio.subprocess.Process

    async def read(self, prompter: Prompter, number: int, models: Sequence[str]) -> None:
        """Have them make round ``number`` of the workload, and read all of it.

        Raises:
            BenchFailed: one of their streams was none.
        """
        texts = [
            self._request(prompter, number, index, models[index % len(models)])
            for index in range(prompter.workload.requests)
        ]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(texts).encode() + b"\n")
        await self.process.stdin.drain()
        if not await self.process.stdout.readline():
            raise BenchFailed("The clients could not read the streams; what they said is above.")

    def _request(self, prompter: Prompter, number: int, index: int, model: str) -> str:
        _, length = prompter.workload.lengths(number, index)
        asked = full_length(prompter.messages(number, index), length)
        body = json.dumps({"model": model, **asked})  # ASCII: as many bytes as characters
        return _REQUEST.format(key=self.key, length=len(body), body=body)


@asynccontextmanager
async def served(
    admin: AdminContext, engine: LocalEngine, prompter: Prompter
) -> AsyncIterator[Clients]:
    """Serve ``engine``, which runs, as ``lccc-admin serve`` does, and start clients for it."""
    from server.process import DrainingServer, listen
    from server.settings import checked

    settings = checked(
        {"home": admin.home, "base": engine.base.name, "host": "127.0.0.1", "port": 0}
    )
    listener = listen(settings)
    ready: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
    server = DrainingServer(settings, engine, ready.set_result)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    serving.add_done_callback(lambda _: ready.cancel())  # it ended before it was ready
    try:
        told = await ready
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "admin.bench.stream_readers"),
            *(str(listener.getsockname()[1]), str(prompter.workload.concurrency)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield Clients(told.token, process)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    finally:
        server.should_exit = True
        await serving
