"""A history counts steps that were made twice once, however it came to know of them."""

from __future__ import annotations

from pathlib import Path

from tests.records import make_run, measure
from training.runs import EventLog, History, Run


def interrupted_run(root: Path) -> Run:
    """Steps 1 to 5, resumed from a checkpoint at 3, steps 4 to 6."""
    run = make_run(root)
    measure(run, 5)
    log = EventLog(run.events_path)
    log.append("evaluation", 5, validation_nll=9.0)
    log.append("warning", 5, message="kept")
    log.append("status", 3, state="running", message="resumed at step 3")
    log.append("evaluation", 4, validation_nll=1.0)
    log.close()
    measure(run, 3, first=4)
    return run


def test_what_was_made_again_counts_once(tmp_path: Path) -> None:
    """Measurements after the checkpoint give way, warnings and states stay, in order."""
    run = interrupted_run(tmp_path)

    events = run.events()

    assert [one.step for one in events if one.kind == "train"] == [1, 2, 3, 4, 5, 6]
    assert [one.validation_nll for one in events if one.kind == "evaluation"] == [1.0]
    assert [one.message for one in events if one.kind == "warning"] == ["kept"]
    assert [one.message for one in events if one.kind == "status"] == [
        "started",
        "resumed at step 3",
    ]
    assert [one.seq for one in events] == sorted(one.seq for one in events)


def test_curves_are_those_of_the_standing_events(tmp_path: Path) -> None:
    """Each quantity has its own steps."""
    history = History(interrupted_run(tmp_path).events_path, ("loss", "validation_nll"))

    assert history.refresh()
    assert history.curves["loss"].steps == [1, 2, 3, 4, 5, 6]
    assert history.curves["validation_nll"].steps == [4]
    assert history.curves["validation_nll"].values == [1.0]
    assert not history.refresh()


def test_a_history_that_watched_knows_the_same(tmp_path: Path) -> None:
    """A resumption that comes later takes back what was already taken in."""
    run = make_run(tmp_path)
    history = History(run.events_path, ("loss",))
    assert not history.refresh()
    measure(run, 5)
    history.refresh()
    assert history.curves["loss"].steps == [1, 2, 3, 4, 5]

    log = EventLog(run.events_path)
    log.append("status", 2, state="running")
    log.close()
    measure(run, 1, first=3)
    history.refresh()

    assert history.curves["loss"].steps == [1, 2, 3]
    assert history.unreadable == 0
