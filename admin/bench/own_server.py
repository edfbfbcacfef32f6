"""A server process of our own, for as long as a benchmark runs."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from admin.bench.errors import BenchFailed
from admin.stopping import sigterm_as_ctrl_c

# What our own servers want of their clients, whatever keys there are at home.
OWN_KEY = secrets.token_urlsafe()

_READY = re.compile(r" at (https?://\S+/v1)$")
_SAID_LINES = 20
_STOP_S = 30.0


class OwnServer:
    """`lccc-admin serve` on a free port, in a process of its own; ``url`` is its API's address.

    Its clients need :data:`OWN_KEY`.
    """

    def __init__(self, home: Path, options: Sequence[str]) -> None:
        command = [sys.executable, "-m", "admin", "--home", str(home), "serve"]
        self.url = ""
        self._said: deque[str] = deque(maxlen=_SAID_LINES)
        self._is_known = threading.Event()
        self._process = subprocess.Popen(
            [*command, "--port", "0", "--drain-timeout", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "LCCC_API_KEY": OWN_KEY},
            encoding="utf-8",
            errors="replace",
        )
        self._reader = threading.Thread(target=self._listen, name="own-server", daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        """Read what it says until it ends; the banner has its address."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.rstrip())
            if not self.url and (found := _READY.search(line.rstrip())):
                self.url = found[1]
                self._is_known.set()
        self._is_known.set()

    def wait(self) -> None:
        """Return once it serves.

        Raises:
            BenchFailed: it ended instead; its last words are in the message.
        """
        self._is_known.wait()
        if not self.url:
            code = self._process.wait()
            raise BenchFailed(f"The server did not start (exit code {code}):\n{self.last_words()}")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        return "\n".join(self._said).strip()

    def stop(self) -> None:
        """End it, by force if it does not go."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


@contextmanager
def own_server(home: Path, options: Sequence[str], say: Callable[[str], None]) -> Iterator[str]:
    """Serve while the block runs; its API's address. Also a SIGTERM of ours ends it.

    Raises:
        BenchFailed: it did not start.
    """
    with sigterm_as_ctrl_c():  # so that no server is left behind
        server = OwnServer(home, options)
        try:
            server.wait()
            yield server.url
            if not server.is_running:
                say(f"The server of this benchmark ended by itself:\n{server.last_words()}")
        finally:
            server.stop()
