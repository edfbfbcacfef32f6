"""Trackers: what they are told, in their own calls, and that none of them ends a training.

The packages are replaced at the seam: modules of their names that note what is called.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from tests.records import make_run
from tests.training.conftest import MakePlan
from training.errors import TrackerFailed, TrackerMissing
from training.recipe import Recipe
from training.runs import Event, Run, RunStore
from training.trackers import TRACKERS, Trackers, check_trackers, values_of
from training.train import train

TRAIN = Event(seq=2, time=1.0, step=3, kind="train", loss=2.5, learning_rate=0.1, epoch=0.5)
EVALUATION = Event(seq=3, time=1.0, step=3, kind="evaluation", validation_nll=2.25)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path)


def installed(monkeypatch: pytest.MonkeyPatch, name: str) -> MagicMock:
    """A package of this name that takes every call."""
    package = MagicMock()
    monkeypatch.setitem(sys.modules, name, package)
    if name == "tensorboard":
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", package)
    return package


def test_each_measurement_has_its_name() -> None:
    """Training and validation apart; what was not measured is not said, and nothing else is."""
    assert values_of(TRAIN) == {"train/loss": 2.5, "train/learning_rate": 0.1, "train/epoch": 0.5}
    assert values_of(EVALUATION) == {"validation/loss": 2.25}
    assert values_of(Event(seq=1, time=1.0, step=3, kind="warning", message="w")) == {}


def test_tensorboard_writes_beside_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scalars by step; a resumed run hides what was written after the checkpoint."""
    writer = installed(monkeypatch, "tensorboard").SummaryWriter

    trackers = Trackers.open(["tensorboard"], run, Recipe(), 7)
    trackers.log(EVALUATION)
    trackers.close("completed")

    writer.assert_called_once_with(str(run.directory / "tensorboard"), purge_step=8)
    writer().add_scalar.assert_called_once_with("validation/loss", 2.25, 3)
    writer().close.assert_called_once_with()
    Trackers.open(["tensorboard"], run, Recipe(), 0)
    assert writer.call_args.kwargs == {"purge_step": None}


def test_wandb_goes_on_under_the_runs_id(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the recipe as its configuration, and an exit code that tells a failure."""
    init = installed(monkeypatch, "wandb").init

    trackers = Trackers.open(["wandb"], run, Recipe(), 0)
    trackers.log(EVALUATION)
    trackers.close("failed")

    options = init.call_args.kwargs
    assert (options["id"], options["resume"], options["dir"]) == (
        run.id,
        "allow",
        str(run.directory),
    )
    assert options["config"]["lora"]["r"] == 16
    init().log.assert_called_once_with({"validation/loss": 2.25}, step=3)
    init().finish.assert_called_once_with(exit_code=1)


def test_mlflow_finds_a_resumed_run_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its tag; the first time it is made, with the recipe as parameters."""
    mlflow = installed(monkeypatch, "mlflow")
    mlflow.search_runs.return_value = []
    Trackers.open(["mlflow"], run, Recipe(), 0).close("stopped")
    known = SimpleNamespace(info=SimpleNamespace(run_id="abc"))
    mlflow.search_runs.return_value = [known]

    trackers = Trackers.open(["mlflow"], run, Recipe(), 7)
    trackers.log(EVALUATION)
    trackers.close("completed")

    assert f"'{run.id}'" in mlflow.search_runs.call_args.kwargs["filter_string"]
    assert [call.kwargs for call in mlflow.start_run.call_args_list] == [
        {"run_name": run.id, "tags": {"lccc.run": run.id}},
        {"run_id": "abc"},
    ]
    assert mlflow.log_params.call_count == 1
    assert mlflow.log_params.call_args.args[0]["lora.r"] == 16
    mlflow.log_metrics.assert_called_once_with({"validation/loss": 2.25}, step=3)
    assert [call.kwargs["status"] for call in mlflow.end_run.call_args_list] == [
        "KILLED",
        "FINISHED",
    ]


def test_trackio_goes_on_under_the_runs_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Weights & Biases, whose interface it has."""
    trackio = installed(monkeypatch, "trackio")

    trackers = Trackers.open(["trackio"], run, Recipe(), 0)
    trackers.log(TRAIN)
    trackers.close("completed")

    assert trackio.init.call_args.kwargs["name"] == run.id
    assert trackio.init.call_args.kwargs["resume"] == "allow"
    assert trackio.log.call_args.kwargs == {"step": 3}
    trackio.finish.assert_called_once_with()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_here_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything else is done."""
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(TrackerMissing, match=rf"--report-to {name} .*pip install {name}"):
        check_trackers([name])
    installed(monkeypatch, name)
    check_trackers([name])


def test_a_tracker_that_cannot_start_leaves_no_other_open(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing account is said before the first step, in the tracker's own words."""
    trackio = installed(monkeypatch, "trackio")
    installed(monkeypatch, "wandb").init.side_effect = RuntimeError("no API key")

    with pytest.raises(TrackerFailed, match="--report-to wandb could not be started: no API key"):
        Trackers.open(["trackio", "wandb"], run, Recipe(), 0)
    trackio.finish.assert_called_once_with()


class Noting:
    """A progress that notes the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def began(self, *_: object) -> None:
        pass

    def event(self, event: Event) -> None:
        if event.kind == "warning":
            self.warnings.append(event.message or "")

    def note(self, message: str) -> None:
        pass


def test_a_tracker_that_fails_ends_no_training(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named once and left out; the others get everything, and the record has the warning."""
    trackio = installed(monkeypatch, "trackio")
    wandb = installed(monkeypatch, "wandb")
    wandb.init().log.side_effect = [None, ConnectionError("network is down")]
    watcher: Any = Noting()

    outcome = train(
        make_plan("training.max_steps=4"),
        "bot",
        runs=RunStore(tmp_path),
        registry=None,
        progress=watcher,
        report_to=["wandb", "trackio"],
    )

    assert outcome.status.state == "completed"
    (warning,) = watcher.warnings
    assert warning.startswith("wandb failed and gets nothing more of this run: network is down.")
    assert wandb.init().log.call_count == 2
    told: list[Any] = [call.args[0] for call in trackio.log.call_args_list]
    measured = [one for one in outcome.run.events() if one.kind in ("train", "evaluation")]
    assert told == [values_of(event) for event in measured]
    trackio.finish.assert_called_once_with()
