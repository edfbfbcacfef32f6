"""Trainings that die at a chosen change of the disk, or at any time, and go on.

Really killed ones run in processes of their own, forked from one that has imported torch and
computed nothing, so that each starts at once and every thread it has is its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitsandbytes  # noqa: F401 - loaded once, before the forks
import peft  # noqa: F401 - the same
import pytest
import torch
from transformers.models.qwen3 import modeling_qwen3  # noqa: F401 - the same

from adapters.base import read_base
from adapters.storage import Disk
from training.data.dataset import PreparedDataset
from training.recipe import read_recipe
from training.runs import EventLog, RunStore
from training.train import plan_training, train

# What Python tells of before it does it, where it changes the disk.
_CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.utime"}


@dataclass(frozen=True)
class Work:
    """A training of the base in ``base`` on the dataset ``name``, whose record is in ``runs``."""

    base: Path
    datasets: Path
    name: str
    overrides: tuple[str, ...]
    runs: Path

    def go_on(self) -> None:
        """Train, or go on with the one run there is."""
        plan = plan_training(
            read_base(self.base, "tiny"),
            read_recipe("qwen3-0.6b-lccc", self.overrides),
            PreparedDataset.open(self.datasets, self.name),
        )
        store = RunStore(self.runs)
        begun = next(iter(store.all()), None)
        train(plan, "bot", runs=store, registry=None, progress=Nobody(), resume=begun)


class Nobody:
    """A progress that nobody watches."""

    def began(self, *_: object) -> None:
        pass

    def event(self, *_: object) -> None:
        pass

    def note(self, *_: object) -> None:
        pass


class Died(BaseException):
    """Stands for SIGKILL within this process."""


@contextmanager
def dying_at(change: int) -> Iterator[list[int]]:
    """Die before change number ``change`` of the disk (0: never), and do nothing more after that.

    Yields a list whose one number counts the changes.
    """
    count = [0]

    def mortal(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            count[0] += 1
            if 0 < change <= count[0]:
                raise Died
            return real(*arguments, **named)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in ("write", "sync", "rename"):
            patch.setattr(Disk, name, mortal(getattr(Disk, name)))
        patch.setattr(EventLog, "append", mortal(EventLog.append))
        patch.setattr("training.execution.checkpoint.shutil.rmtree", mortal(_remove_tree))
        yield count


def _remove_tree(path: Path, *, ignore_errors: bool) -> None:
    """As :func:`shutil.rmtree`, which is replaced everywhere when it is replaced anywhere."""
    if path.is_dir():
        for child in path.iterdir():
            child.unlink()
        path.rmdir()


def start(work: Work, *, kill_at: int = 0) -> multiprocessing.process.BaseProcess:
    """Go on in a new process, which kills itself before change ``kill_at`` of the disk."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_live, args=(work, kill_at))
    process.start()
    return process


def _live(work: Work, kill_at: int) -> None:
    torch.set_num_threads(1)
    changes = _count_changes(str(work.runs), kill_at)
    work.go_on()
    (work.runs.parent / "changes").write_text(str(changes[0]))


def _count_changes(root: str, kill_at: int) -> list[int]:
    """Count what is about to change below ``root``, and die (SIGKILL) before number ``kill_at``."""
    count = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES or not str(arguments[0]).startswith(root):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        count[0] += 1
        if count[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count
