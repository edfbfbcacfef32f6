"""Trainings that are killed at any moment, also inside a save, resume and lose nothing."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.base import Base
from tests.training.conftest import QUICK
from tests.training.killing import Died, Work, dying_at, start
from training.data.dataset import PreparedDataset
from training.runs import Run, RunStore
from training.runs.reader import read_events
from training.runs.verification import verify

STEPS = 4
KILLS = 50
OVERRIDES = (
    *QUICK,
    f"training.max_steps={STEPS}",
    "record.save_every=1",
    "record.evaluate_every=2",
    "record.keep_checkpoints=2",
)


@pytest.fixture
def work(base: Base, dataset: PreparedDataset, tmp_path: Path) -> Work:
    """A training of four steps that saves after each."""
    place = tmp_path / "straight" / "runs"
    return Work(base.path, dataset.path.parent, dataset.name, OVERRIDES, place)


def run_of(work: Work) -> Run:
    (run,) = RunStore(work.runs).all()
    return run


def assert_nothing_was_lost(killed: Run, straight: Run) -> None:
    """The same weights, the same record, every file whole, and no leftovers of saves."""
    assert killed.status().state == "completed"
    for file in (f"checkpoints/step-{STEPS}/lora.safetensors", "adapter/adapter_model.safetensors"):
        assert (killed.directory / file).read_bytes() == (straight.directory / file).read_bytes()
    numbers = [event.seq for event in read_events(killed.events_path)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert measured(killed) == measured(straight)
    assert killed.status().best_step == straight.status().best_step
    assert not any(verify(killed).values())
    assert not list(killed.checkpoints.glob(".staged-*"))


def measured(run: Run) -> list[tuple[object, ...]]:
    """What stands in the record, in order, without times, speeds and what happened to it."""
    return [
        (one.kind, one.step, one.loss, one.gradient_norm, one.validation_nll, one.path)
        for one in run.events()
        if one.kind in ("train", "evaluation", "checkpoint")
    ]


def test_a_training_that_dies_inside_its_saves_loses_nothing(work: Work, tmp_path: Path) -> None:
    """At a third of all its changes of the disk, and twice again when it goes on."""
    with dying_at(0) as changes:
        work.go_on()
    straight, total = run_of(work), changes[0]
    again = replace(work, runs=tmp_path / "killed" / "runs")

    for share in (0.35, 0.2, 0.3):
        with dying_at(int(share * total)), pytest.raises(Died):
            again.go_on()
        assert run_of(again).status().state == "interrupted"
    again.go_on()

    assert_nothing_was_lost(run_of(again), straight)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_at_random_lose_nothing(work: Work, tmp_path: Path) -> None:
    """Before any change of the disk, or at any time; each run is killed until it gets through."""
    assert live(work)
    began_s = time.monotonic()
    assert live(replace(work, runs=tmp_path / "again" / "runs"))
    seconds = time.monotonic() - began_s
    changes = int((work.runs.parent / "changes").read_text())
    chance = random.Random(0)
    kills = runs = 0
    while kills < KILLS:
        again = replace(work, runs=tmp_path / str(runs) / "runs")
        runs += 1
        while True:
            if chance.random() < 0.5:
                survived = live(again, kill_at=chance.randint(1, changes))
            else:
                survived = live(again, kill_after_s=chance.uniform(0.0, seconds))
            if survived:
                break
            kills += 1
        assert_nothing_was_lost(run_of(again), run_of(work))


def live(work: Work, *, kill_at: int = 0, kill_after_s: float | None = None) -> bool:
    """One life of a training in a process of its own; whether the training reached its end.

    A process that is killed after that, on its way out, has nothing left to lose.
    """
    process = start(work, kill_at=kill_at)
    if kill_after_s is not None:
        process.join(kill_after_s)
        process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    if process.exitcode == 0:
        return True
    return any(run.status().state == "completed" for run in RunStore(work.runs).all())
