"""A side of a benchmark in a process of its own, which plays a round when it is told to."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from admin.bench.errors import BenchFailed

SHOWN_LINES = 12
PATIENCE_S = 20

Name = TypeVar("Name", bound=str)


class PlayedRound(msgspec.Struct, frozen=True):
    """Seconds on the clock and on all processors together, and the most bytes of memory.

    ``facts`` are what a side says of what it has done.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    facts: dict[str, Any] = {}


def take_turns(
    sides: Mapping[Name, SideProcess], rounds: int, tell: Callable[[Name, int, PlayedRound], None]
) -> dict[Name, list[PlayedRound]]:
    """What each side's ``rounds`` took, counted from 1: A B C, C B A, and so on.

    ``tell`` is told of each when it is over.

    Raises:
        BenchFailed: a side ended in the middle.
    """
    played: dict[Name, list[PlayedRound]] = {name: [] for name in sides}
    for number in range(1, rounds + 1):
        for name in list(sides) if number % 2 else reversed(list(sides)):
            done = sides[name].play(number)
            played[name].append(done)
            tell(name, number, done)
    return played


class SideProcess:
    """The process of ``command``; what it and its libraries print goes to ``log``.

    Use it as a context manager: at the end the process is gone.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self._command = command
        self._log = log

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
                text=True,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # it is gone already
            self._process.stdin.close()
        if kind is not None:
            self._process.kill()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def ready(self) -> dict[str, Any]:
        """Wait until everything is loaded; what it says of itself.

        Raises:
            BenchFailed: it ended before; the message has the last that it said.
        """
        found: dict[str, Any] = self._answer()["ready"]
        return found

    def warmed_up(self) -> Self:
        """Itself, once it is ready and has played a round that does not count.

        Raises:
            BenchFailed: it ended before; the message has the last that it said.
        """
        self.ready()
        self.play(0)
        return self

    def play(self, number: int) -> PlayedRound:
        """Round ``number``.

        Raises:
            BenchFailed: it ended in the middle; the message has the last that it said.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"round": number}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failed() from None
        return msgspec.convert(self._answer(), PlayedRound)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failed()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failed(self) -> BenchFailed:
        code = self._process.wait()
        said = self._log.read_text("utf-8", errors="replace").strip().splitlines()
        shown = "\n  ".join(said[-SHOWN_LINES:])
        return BenchFailed(f"The side '{self.name}' ended with exit code {code}:\n  {shown}")
