"""How a training that breaks off ends: in its record, and for whoever called it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.records import make_run
from tests.training.conftest import MakePlan
from training.errors import NoRoom, TrainingFailed
from training.execution.breakdown import recorded
from training.execution.journal import Journal
from training.runs import Run

Break = Callable[[BaseException], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path)


@pytest.fixture
def breaks(run: Run, make_plan: MakePlan) -> Break:
    """Break a training off by an error."""

    def off(error: BaseException) -> None:
        audience: Any = None
        with run.held():
            journal = Journal(run, run.status(), audience)
            try:
                with recorded(journal, make_plan()):
                    raise error
            finally:
                journal.close()

    return off


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError("no memory"),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: 99 bytes."),
    ],
)
def test_too_little_memory_is_answered_with_advice(
    run: Run, breaks: Break, error: BaseException
) -> None:
    """On a GPU and on a CPU; the record has it too."""
    with pytest.raises(
        TrainingFailed, match=r"not enough memory.*training\.batch_size=1"
    ) as failed:
        breaks(error)

    assert str(error) in str(failed.value)
    assert (run.status().state, run.status().error) == ("failed", str(failed.value))
    assert run.events()[-1].message == str(failed.value)


def test_a_full_disk_is_answered_with_what_is_needed(run: Run, breaks: Break) -> None:
    """Another file error names the file."""
    with pytest.raises(NoRoom, match="A checkpoint takes about"):
        breaks(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(TrainingFailed, match=r"Permission denied: 'x'.*is kept in"):
        breaks(OSError(errno.EACCES, "Permission denied", "x"))


def test_a_bug_stays_a_bug(run: Run, breaks: Break) -> None:
    """It is recorded as the failure and goes on upwards as it is."""
    with pytest.raises(ZeroDivisionError):
        breaks(ZeroDivisionError())

    assert (run.status().state, run.status().error) == ("failed", "ZeroDivisionError")


def test_an_interrupt_is_no_failure(run: Run, breaks: Break) -> None:
    """The second Ctrl-C."""
    with pytest.raises(KeyboardInterrupt):
        breaks(KeyboardInterrupt())

    assert (run.status().state, run.status().error) == ("interrupted", None)
