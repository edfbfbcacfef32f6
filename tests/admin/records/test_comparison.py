"""Runs side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.records.comparison import compare, worked_s
from admin.records.errors import RecordError
from tests.records import make_run, measure
from training.runs import Event, Run


def trained(root: Path, rate: str, dataset: str, *, steps: int) -> Run:
    run = make_run(
        root,
        recipe=f"[training]\nlearning_rate = {rate}\nepochs = 1.0\n",
        environment={
            "inputs": {"dataset": {"sha256": dataset}},
            "python": "3.11",
            "versions": {"torch": "2.13.0"},
            "command": [str(steps)],
        },
        step=steps,
    )
    measure(run, steps)
    return run


def test_only_what_differs_is_listed(tmp_path: Path) -> None:
    """Of recipe, inputs and software; the command is no part of what a run is."""
    runs = [trained(tmp_path, "0.1", "aaa", steps=2), trained(tmp_path, "0.2", "bbb", steps=3)]

    found = compare(runs)

    assert found.runs == [run.id for run in runs]
    assert found.made == {
        "training.learning_rate": [0.1, 0.2],
        "inputs.dataset.sha256": ["aaa", "bbb"],
    }


def test_what_came_of_it_is_listed_for_all(tmp_path: Path) -> None:
    """Also for a run that has measured nothing yet."""
    found = compare(
        [trained(tmp_path, "0.1", "a", steps=2), trained(tmp_path, "0.1", "a", steps=0)]
    )

    assert found.made == {}
    assert found.came_of_it["steps"] == [2, 0]
    assert found.came_of_it["last loss"] == [3.98, None]
    assert found.came_of_it["tokens/s (median)"] == [123.4, None]
    assert found.came_of_it["best validation loss"] == [3.25678, 3.25678]


def test_a_field_that_one_run_does_not_know_is_a_difference(tmp_path: Path) -> None:
    """Recipes of different versions."""
    runs = [make_run(tmp_path, recipe="[lora]\nr = 8\n"), make_run(tmp_path, recipe="")]

    assert compare(runs).made == {"lora.r": [8, None]}


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    """Not a traceback."""
    run = make_run(tmp_path, recipe="no = = toml")

    with pytest.raises(RecordError, match=f"The record of {run.id} cannot be read"):
        compare([run])


def test_pauses_are_no_training() -> None:
    """The time between a stop and the resumption is left out."""

    def event(time: float, state: str | None = None) -> Event:
        return Event(seq=1, step=1, kind="status", time=time, state=state)  # type: ignore[arg-type]

    events = [
        event(0, "running"),
        event(10),
        event(11, "stopped"),
        event(500, "running"),
        event(505),
    ]

    assert worked_s(events) == 16
    assert worked_s([]) == 0
