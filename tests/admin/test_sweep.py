"""``lccc-admin sweep``: its trials are trainings, and the best of them is registered.

Trials are real, but run in this process, which has loaded torch already; processes of their own are
in ``tests/admin/sweeps``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.home import Home
from adapters.registry import Registry
from admin.cli import main
from admin.sweeps.process import Ended, StopRequests
from server.wire.sweeps import SweepPlan
from tests.records import make_run
from tests.tiny import tiny_base
from tests.training.conftest import DIALOGUES, QUICK
from tests.training.sweeps.writing import write
from training.data.dataset import prepare
from training.recipe import read_recipe
from training.runs import Run, RunStore
from training.sweeps.lock import conducting

RATES = {"learning_rate": [1e-3, 1e-2]}
DIVERGING = {"learning_rate": [1e9, 1e-2]}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a dataset, and one without validation."""
    root = tmp_path_factory.mktemp("material")
    tiny_base(root / "models" / "tiny")
    for name, split in (("small", 20), ("blind", 24)):
        raw = root / f"{name}.json"
        raw.write_text(json.dumps({"train": DIALOGUES[:split], "valid": DIALOGUES[split:]}))
        prepare([raw], name, root / "datasets", validation_share=0, test_share=0)
    return root


class InProcess:
    """Runs trials here: ``started`` is what they were told, ``said`` what they said.

    Number ``stops_at`` is stopped, after so many ``signals`` to the sweep; 0: by `runs stop`.
    """

    def __init__(self) -> None:
        self.started: list[Sequence[str]] = []
        self.said: list[str] = []
        self.stops_at: int | None = None
        self.signals = 1

    def __call__(self, arguments: Sequence[str], _lock: int, requests: StopRequests) -> Ended:
        self.started.append(arguments)
        with pytest.MonkeyPatch.context() as patch:
            if len(self.started) == self.stops_at:
                asked = count()
                requests.count = self.signals
                patch.setattr(
                    "admin.commands.train.stop_on_signal",
                    lambda _say: nullcontext(lambda: next(asked) >= 2),
                )
            result = CliRunner().invoke(main, list(arguments))
        self.said.append(result.stderr)
        return Ended(os.getpid(), result.exit_code)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Stands where processes are started."""
    runner = InProcess()
    monkeypatch.setattr("admin.sweeps.process.run_trial", runner)
    return runner


class Place:
    """A home with the datasets, and a sweep's file of two learning rates beside the base."""

    def __init__(self, root: Path, material: Path) -> None:
        self.file = root / "rank.toml"
        self.home = Home(root / "home")
        self.home.root.mkdir(exist_ok=True)
        if not self.home.datasets.exists():
            self.home.datasets.symlink_to(material / "datasets")
        (root / "models").symlink_to(material / "models")
        self.write()

    def write(self, fields: dict[str, Any] = RATES, steps: int = 3, **more: Any) -> None:
        recipe = read_recipe("qwen3-0.6b-lccc", [*QUICK, f"training.max_steps={steps}"])
        (self.file.parent / "quick.toml").write_text(recipe.toml(), encoding="utf-8")
        write(self.file, fields, **{"recipe": "quick.toml", "base": "models/tiny", **more})

    def run(self, *options: str) -> Result:
        command = ["--home", str(self.home.root), "sweep", str(self.file), *options]
        return CliRunner().invoke(main, command)

    def table(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.run("--status", "--json").stdout)
        return report

    def states(self) -> list[str]:
        return [one["state"] for one in self.table()["trials"]]

    def runs(self) -> list[Run]:
        return RunStore(self.home.runs).all()

    def names(self) -> list[str]:
        return list(Registry(self.home.registry).snapshot().entries)


@pytest.fixture
def place(tmp_path: Path, material: Path) -> Place:
    """A place for a sweep that has not begun."""
    return Place(tmp_path, material)


@pytest.fixture(scope="module")
def conducted(tmp_path_factory: pytest.TempPathFactory, material: Path) -> tuple[Path, Result]:
    """The home of a sweep that has come to its end, and what it said."""
    place = Place(tmp_path_factory.mktemp("conducted"), material)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("admin.sweeps.process.run_trial", InProcess())
        done = place.run("--json")
    assert done.exit_code == 0, done.stderr
    return place.home.root, done


@pytest.fixture
def done(tmp_path: Path, material: Path, conducted: tuple[Path, Result]) -> Place:
    """A place of its own where that sweep has come to its end."""
    shutil.copytree(conducted[0], tmp_path / "home", symlinks=True)
    return Place(tmp_path, material)


def test_the_best_of_all_trials_is_registered_and_no_other(
    done: Place, conducted: tuple[Path, Result]
) -> None:
    """Each trial is a run that knows its sweep; the lowest loss gets the sweep's name."""
    place, said = done, conducted[1].stderr
    report = place.table()
    losses = [one["validation_nll"] for one in report["trials"]]
    best = report["trials"][0]
    assert losses == sorted(losses)
    assert len(set(losses)) == 2
    assert best["values"] == {"training.learning_rate": 1e-2}
    assert (report["best"], report["is_running"]) == (best["id"], False)
    statuses = {run.id: run.status() for run in place.runs()}
    assert {one.sweep for one in statuses.values()} == {"rank"}
    assert {one.adapter for one in statuses.values()} == {one["name"] for one in report["trials"]}
    assert place.names() == ["rank"]
    entry = Registry(place.home.registry).get("rank")
    assert Registry(place.home.registry).verify("rank") == []
    assert entry.manifest.run is not None
    assert (entry.manifest.run.id, entry.manifest.run.sweep) == (best["run"], "rank")
    assert entry.manifest.metrics == {"validation_nll": best["validation_nll"]}
    assert statuses[best["run"]].digest == entry.digest == report["registered"]["digest"]
    assert "lccc-admin chat --model rank\n" in said
    command = ["--home", str(place.home.root), "adapters", "show", "rank"]
    assert "a trial of the sweep rank" in CliRunner().invoke(main, command).stdout
    assert json.loads(conducted[1].stdout) == report, "stdout is the table alone"


def test_what_is_done_is_not_done_again(done: Place, trials: InProcess) -> None:
    """The same command finds its trials and prints them by their loss; with a value more in the
    file it runs that.
    """
    place = done
    before = Registry(place.home.registry).get("rank")

    again = place.run()

    assert again.exit_code == 0, again.stderr
    assert (trials.started, Registry(place.home.registry).get("rank")) == ([], before)
    rows = [line.split()[1:3] for line in again.stdout.splitlines()[1:]]
    assert rows == [["0.01", "completed"], ["0.001", "completed"]]

    kept = place.home.sweeps / "rank" / "sweep.toml"
    command = ["--home", str(place.home.root), "sweep", str(kept)]
    same = CliRunner().invoke(main, command)
    assert (same.stdout, trials.started) == (again.stdout, []), "it is kept, to go on from anywhere"

    place.write({"learning_rate": [1e-2, 2e-2, 1e-3]})
    grown = place.run()

    assert grown.exit_code == 0, grown.stderr
    assert "trials: 3; to run: 1; steps: 3, about 0:00:0" in grown.stderr
    (told,) = trials.started
    assert "training.learning_rate=0.02" in told
    assert place.states() == ["completed"] * 3


def test_a_stopped_sweep_goes_on_from_the_checkpoint(place: Place, trials: InProcess) -> None:
    """The trial that was stopped is resumed, those before it are skipped."""
    trials.stops_at = 2
    stopped = place.run()

    assert stopped.exit_code == 0, stopped.stderr
    assert stopped.stdout == ""
    assert "Stopped: 1 of 2 trials are done. Go on with:\n" in stopped.stderr
    (command,) = [line for line in stopped.stderr.splitlines() if line.startswith("  lccc-admin")]
    assert place.states() == ["completed", "stopped"]
    assert place.names() == []
    begun = {run.id for run in place.runs()}

    words = shlex.split(command)
    done = CliRunner().invoke(main, ["--home", str(place.home.root), *words[1:]])

    assert done.exit_code == 0, done.stderr
    assert {run.id for run in place.runs()} == begun
    assert "--resume" in trials.started[2]
    assert "resumed at step 2" in trials.said[2]
    assert place.states() == ["completed"] * 2
    assert place.names() == ["rank"]


def test_a_sweep_that_is_asked_to_stop_begins_no_other_trial(
    place: Place, trials: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another process, while a trial runs; the next command goes on."""
    said: list[Result] = []

    def asked(arguments: Sequence[str], handle: int, requests: StopRequests) -> Ended:
        ended = trials(arguments, handle, requests)
        if not said:
            said.append(place.run("--stop"))
        return ended

    monkeypatch.setattr("admin.sweeps.process.run_trial", asked)

    stopped = place.run()

    assert "Asked: 'rank' ends" in said[0].stderr
    assert "Stopped: 1 of 2 trials are done. Go on with:\n" in stopped.stderr
    assert "The sweep 'rank' is not running." in place.run("--stop").stderr
    assert place.run().exit_code == 0
    assert place.states() == ["completed"] * 2


def test_a_failing_trial_fails_alone(place: Place, trials: InProcess) -> None:
    """The others go on and the best of them is registered; it is retried when that is asked."""
    place.write(DIVERGING)

    done = place.run()

    assert done.exit_code == 0, done.stderr
    assert "Trial 1 of 2 failed, for the reason above; the sweep goes on" in done.stderr
    assert place.states() == ["completed", "failed"]
    assert "not finite" in place.table()["trials"][1]["error"]
    assert place.names() == ["rank"]
    assert "1 of 2 trials failed. Try them again with:" in done.stderr

    assert len(trials.started) == 2
    place.run()
    assert len(trials.started) == 2
    place.run("--retry-failed")
    assert len(trials.started) == 3
    assert "--resume" in trials.started[2]


def test_a_trial_whose_process_is_killed_fails_alone_too(
    place: Place, trials: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run says nothing of it, but whoever started it has seen it; a retry begins it again."""

    def killed(arguments: Sequence[str], handle: int, requests: StopRequests) -> Ended:
        if trials.started:
            return trials(arguments, handle, requests)
        trials.started.append(arguments)
        adapter = arguments[arguments.index("--name") + 1]
        base = str(place.file.parent / "models" / "tiny")
        make_run(
            place.home.runs,
            read_recipe(arguments[arguments.index("--recipe") + 1]).toml(),
            state="running",
            adapter=adapter,
            sweep="rank",
            dataset="small",
            base=base,
            step=1,
            validation_nll=None,
            pid=7,
        )
        return Ended(7, -9)

    monkeypatch.setattr("admin.sweeps.process.run_trial", killed)
    done = place.run()

    assert done.exit_code == 0, done.stderr
    assert "Its process died (signal SIGKILL)" in done.stderr
    assert place.states() == ["completed", "failed"]
    place.run()
    assert len(trials.started) == 2


def test_a_trial_that_cannot_begin_ends_the_sweep(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy GPU or a full disk is no fault of the trial, and would fail all of them in turn."""
    monkeypatch.setattr("admin.sweeps.process.run_trial", lambda *_: Ended(7, 1))

    done = place.run()

    assert done.exit_code == 1
    assert "This trial could not begin (exit code 1); the reason stands above." in done.stderr
    assert place.states() == ["pending"] * 2


def test_no_trial_that_came_to_its_end_is_no_best_one(place: Place, trials: InProcess) -> None:
    """The table tells why, nothing is registered, and the exit code says so."""
    place.write({"learning_rate": [1e9]})

    done = place.run()

    assert done.exit_code == 1
    assert "No trial of the sweep 'rank' was completed" in done.stderr
    assert done.stdout.count("failed") == 1
    assert place.names() == []
    as_json = place.run("--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout) == place.table()


def test_a_changed_file_is_refused_before_anything_runs(done: Place, trials: InProcess) -> None:
    """With the difference; the old trials and their results stay."""
    place = done
    before = place.table()
    place.write(steps=4)

    changed = place.run()

    assert changed.exit_code == 1
    assert "has begun with something else:\n  recipe, training.max_steps: was 3, is 4\n" in (
        changed.stderr
    )
    assert trials.started == []
    assert place.table() == before


def test_a_bad_value_is_named_before_anything_runs(place: Place, trials: InProcess) -> None:
    """Also before a base is looked for, and nothing is left behind."""
    place.write({"lora.r": [4, 8, 0]}, base="pocket")

    refused = place.run()

    assert refused.exit_code == 1
    assert 'rank.toml: fields."lora.r"[2]: Expected `int` >= 1.' in refused.stderr
    assert not place.home.sweeps.exists()


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"data": "blind"}, (), "the dataset 'blind' has no dialogues for validation"),
        ({"data": "none"}, (), "No dataset is called 'none'"),
        ({"fields": {"lora.kind": ["lora", "dora"]}}, (), "The trial lora.kind=dora: the server c"),
        (
            {"fields": {"lora.kind": ["adalora"], "adalora.start": [0.55]}},
            (),
            "The trial lora.kind=adalora, adalora.start=0.55: adalora.start and adalora.end leave",
        ),
        ({}, ("--name", "../x"), "cannot be used"),
    ],
)
def test_what_cannot_be_trained_or_registered_is_said_first(
    place: Place, trials: InProcess, changes: dict[str, Any], options: tuple[str, ...], said: str
) -> None:
    """Not after hours of other trials."""
    place.write(**changes)

    refused = place.run(*options)

    assert refused.exit_code == 1
    assert said in refused.stderr
    assert not trials.started
    assert not place.home.sweeps.exists()


def test_a_dry_run_shows_trials_and_steps_and_leaves_nothing(place: Place) -> None:
    """As a table and as JSON; draws that are the same are counted."""
    place.write({"lora.r": [4, 8], "seed": [1]}, search="random", trials=9, seed=1)

    shown, plan = place.run("--dry-run"), json.loads(place.run("--dry-run", "--json").stdout)

    assert shown.exit_code == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 3
    assert re.search(r"^rank-[0-9a-f]{10} +[48] +1 +pending +3", shown.stdout, re.MULTILINE)
    said = "trials: 2; the same as one of them: 7; to run: 2; steps: 6, time unknown, "
    assert said in shown.stderr
    assert (plan["to_run"], plan["steps"], plan["seconds"], plan["duplicates"]) == (2, 6, None, 7)
    assert plan["disk"] > 0
    assert msgspec.convert(plan, SweepPlan).to_run == 2, "the console reads it so"
    assert not place.home.sweeps.exists()
    assert not place.home.runs.exists()


def test_without_registration_the_command_for_it_works(done: Place) -> None:
    """The printed line is run as it stands, and `--name` is in it."""
    unregistered = done.run("--no-register", "--name", "mine")
    assert done.names() == ["rank"]

    (line,) = [line for line in unregistered.stderr.splitlines() if "adapters register" in line]
    CliRunner().invoke(main, ["--home", str(done.home.root), *shlex.split(line)[1:]])

    assert done.names() == ["mine", "rank"]


def test_a_best_run_that_was_deleted_can_be_trained_again(done: Place) -> None:
    """What came of it is still known; the printed command makes the same adapter."""
    place = done
    best = place.table()["trials"][0]
    RunStore(place.home.runs).remove(RunStore(place.home.runs).get(best["run"]))
    assert place.run().exit_code == 0, "it is registered already"

    gone = place.run("--name", "other")

    assert gone.exit_code == 1
    assert f"The run of the best trial, {best['run']}, has been deleted" in gone.stderr
    words = shlex.split(gone.stderr.strip().rpartition("\n")[2])
    CliRunner().invoke(main, ["--home", str(place.home.root), *words[1:]])
    metrics = Registry(place.home.registry).get("other").manifest.metrics
    assert metrics["validation_nll"] == pytest.approx(best["validation_nll"], rel=1e-6)


def test_a_trial_that_is_resumed_by_hand_is_not_registered(place: Place, trials: InProcess) -> None:
    """A trial that is stopped by itself stops its sweep. Whoever resumes it (the console, too)
    leaves the rest to the sweep, which finds it complete.
    """
    trials.stops_at, trials.signals = 1, 0
    place.run()
    (run,) = place.runs()

    command = ["--home", str(place.home.root), "train", "--resume", run.id]
    resumed = CliRunner().invoke(main, command)

    assert resumed.exit_code == 0, resumed.stderr
    assert "it is a trial of the sweep 'rank'" in resumed.stderr
    assert place.names() == []
    assert "trials: 2; to run: 1;" in place.run("--dry-run").stderr
    assert place.run().exit_code == 0
    assert len(trials.started) == 2
    assert place.names() == ["rank"]


def test_two_at_once_are_refused(done: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is told which process the first is; `--status` shows it running."""
    place = done
    monkeypatch.setattr("adapters.storage.PROBES_S", 0.0)
    with conducting(place.home.sweeps / "rank"):
        refused = place.run()
        report = place.table()

    assert refused.exit_code == 1
    assert f"The sweep 'rank' is running already (process {os.getpid()}, or" in refused.stderr
    assert report["is_running"]


def test_a_sweep_that_has_not_begun_has_no_status(place: Place) -> None:
    """And what does not go together is wrong usage."""
    none = place.run("--status")
    both = place.run("--status", "--dry-run")

    assert (none.exit_code, none.stdout) == (1, "")
    assert "The sweep 'rank' has not begun." in none.stderr
    assert both.exit_code == 2
