"""Room on the disk: estimated before, refused in time, explained when it runs out."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.records import make_run
from tests.training.conftest import MakePlan
from training.errors import NoRoom
from training.planning.space import (
    RECORD_BYTES,
    check_room,
    checkpoint_bytes,
    checkpoints_at_once,
    megabytes,
    needed_bytes,
    no_room,
)


class Usage(NamedTuple):
    """As :func:`shutil.disk_usage` gives it."""

    total: int
    used: int
    free: int


SetFree = Callable[[int], None]


@pytest.fixture
def set_free(monkeypatch: pytest.MonkeyPatch) -> SetFree:
    """Say how many bytes the disk has free."""

    def to(free: int) -> None:
        monkeypatch.setattr(
            "training.planning.space.shutil.disk_usage", lambda _: Usage(0, 0, free)
        )

    return to


def test_what_is_needed_follows_from_the_recipe(make_plan: MakePlan) -> None:
    """Two moments and the weight of each parameter, for each checkpoint that lies there at once."""
    plan = make_plan("training.max_steps=100", "record.save_every=5", "record.keep_checkpoints=4")
    weights = plan.trainable_parameters * 4 * 1.05

    assert checkpoint_bytes(plan) == int(3 * weights)
    assert checkpoints_at_once(plan) == 6
    assert needed_bytes(plan) == 6 * checkpoint_bytes(plan) + 2 * int(weights) + RECORD_BYTES


def test_a_short_training_needs_no_more_than_it_saves(make_plan: MakePlan) -> None:
    """Two saves on the way, one validation, and the end."""
    plan = make_plan("training.max_steps=5", "record.keep_checkpoints=9")

    assert checkpoints_at_once(plan) == 2 + 1 + 1


def test_a_training_that_would_not_fit_is_refused(
    make_plan: MakePlan, set_free: SetFree, tmp_path: Path
) -> None:
    """With both sizes and a way out, also where the directory is not there yet."""
    plan = make_plan()
    set_free(needed_bytes(plan))
    check_room(plan, tmp_path / "not" / "yet")

    set_free(needed_bytes(plan) - 1)
    with pytest.raises(NoRoom) as refusal:
        check_room(plan, tmp_path / "not" / "yet")

    assert f"about {megabytes(needed_bytes(plan))} on the disk of {tmp_path}" in str(refusal.value)
    assert "lower record.keep_checkpoints" in str(refusal.value)


def test_what_a_resumed_run_holds_already_counts(
    make_plan: MakePlan, set_free: SetFree, tmp_path: Path
) -> None:
    """Its checkpoints give way to the new ones."""
    plan, run = make_plan(), make_run(tmp_path)
    (run.checkpoints / "step-2").mkdir()
    (run.checkpoints / "step-2" / "state.pt").write_bytes(bytes(1000))
    set_free(needed_bytes(plan) - 1000)

    check_room(plan, tmp_path, run)
    with pytest.raises(NoRoom):
        check_room(plan, tmp_path)


def test_a_full_disk_is_explained(make_plan: MakePlan, set_free: SetFree, tmp_path: Path) -> None:
    """How much a checkpoint takes, what is free, what was kept, and the command to go on."""
    plan, run = make_plan(), make_run(tmp_path)
    set_free(1234)
    for step in (2, 10, 9):
        (run.checkpoints / f"step-{step}").mkdir()

    explained = str(no_room(OSError(errno.ENOSPC, "No space left on device"), plan, run))

    assert "No space left on device" in explained
    assert (
        f"A checkpoint takes about {megabytes(checkpoint_bytes(plan))}, 1 kB are free" in explained
    )
    assert "The newest checkpoint, step-10, is kept" in explained
    assert f"lccc-admin train --resume {run.id}" in explained
    assert no_room(OSError(errno.EACCES, "Permission denied"), plan, run) is None


@pytest.mark.parametrize(("size", "shown"), [(999, "1 kB"), (2_500_000, "2 MB"), (3e9, "3,000 MB")])
def test_sizes_read_well(size: int, shown: str) -> None:
    """In the units that disks are sold in."""
    assert megabytes(size) == shown
