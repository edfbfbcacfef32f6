"""Disks that fail: at a chosen step, by dying or by an error, and one that takes notes.

No torch here: processes that only write into a registry import it, too.
"""

from __future__ import annotations

import errno
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from adapters.storage import Disk

STEPS = [name for name in vars(Disk) if not name.startswith("_")]


class Crash(BaseException):
    """The process is gone. No handler for errors may catch it."""


class QuickDisk(Disk):
    """Does not wait for the platter: nobody pulls the plug in a test."""

    def sync(self, path: Path) -> None:
        assert path.exists()


class SteppingDisk(QuickDisk, ABC):
    """Calls :meth:`before` ahead of each step."""

    @abstractmethod
    def before(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        """Step ``number``, of this name, is to come."""

    def __init__(self) -> None:
        self.steps = 0


def _stepping(name: str) -> Callable[..., None]:
    def step(self: SteppingDisk, *arguments: Any) -> None:
        self.steps += 1
        self.before(self.steps - 1, name, arguments)
        getattr(QuickDisk, name)(self, *arguments)

    return step


for _name in STEPS:
    setattr(SteppingDisk, _name, _stepping(_name))


class CrashingDisk(SteppingDisk):
    """Does ``survived`` steps, then nothing ever again; a write it dies in stays half done."""

    def __init__(self, survived: int) -> None:
        super().__init__()
        self.survived = survived

    def before(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        if number < self.survived:
            return
        if number == self.survived and name == "write":
            half_write(*arguments)
        self.survived = -1  # what runs while the crash unwinds must not touch the disk either
        raise Crash


class KillingDisk(SteppingDisk):
    """Kills its own process with SIGKILL after ``survived`` steps."""

    def __init__(self, survived: int) -> None:
        super().__init__()
        self.survived = survived

    def before(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        if number == self.survived:
            os.kill(os.getpid(), signal.SIGKILL)


class FullDisk(SteppingDisk):
    """Has no space for step number ``failing``, and for writes after it."""

    def __init__(self, failing: int) -> None:
        super().__init__()
        self.failing = failing

    def before(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        if number == self.failing or (number > self.failing and name == "write"):
            raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))


class NotingDisk(SteppingDisk):
    """Keeps every step, in order, as (name, arguments)."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[str, tuple[Any, ...]]] = []

    def before(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        self.notes.append((name, arguments))


def half_write(path: Path, blocks: Iterable[bytes]) -> None:
    whole = b"".join(blocks)
    path.write_bytes(whole[: len(whole) // 2])
