"""Run records: what is written is what any process reads, without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from training.errors import RunNotFound
from training.runs import Metric, Run, RunStatus, RunStore, process_started


def status_of(run: Run, **changes: object) -> RunStatus:
    """A status of this very process."""
    status = RunStatus(
        id=run.id,
        state="running",
        adapter="bot",
        base="tiny",
        dataset="small",
        total_steps=10,
        started=1000.0,
        updated=1000.0,
        pid=os.getpid(),
        process_started=process_started(os.getpid()),
    )
    return msgspec.structs.replace(status, **changes)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that claims to be running in this process."""
    made = RunStore(tmp_path).create("bot", "[lora]\n", {"versions": {}})
    made.write_status(status_of(made))
    return made


def test_status_and_metrics_come_back(run: Run) -> None:
    """The record reads as it was written."""
    metric = Metric(kind="train", step=1, time=1.0, loss=2.5)
    run.append(metric)

    assert run.status() == status_of(run)
    assert list(run.metrics()) == [metric]


def test_a_torn_last_line_is_not_read(run: Run) -> None:
    """Whoever reads while a line is being written sees the complete ones."""
    run.append(Metric(kind="train", step=1, time=1.0))
    with (run.directory / "metrics.jsonl").open("ab") as file:
        file.write(b'{"kind":"train","st')

    assert [metric.step for metric in run.metrics()] == [1]


def test_metrics_after_a_checkpoint_can_be_dropped(run: Run) -> None:
    """A resumed run repeats those steps; they must not appear twice."""
    for step in (1, 2, 3):
        run.append(Metric(kind="train", step=step, time=1.0))

    run.drop_metrics_after(2)

    assert [metric.step for metric in run.metrics()] == [1, 2]


def test_a_run_whose_process_is_gone_reads_as_interrupted(run: Run) -> None:
    """Killed without a word is not running for ever, also when the pid is used again."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    run.write_status(status_of(run, pid=child.pid, process_started=1.0))
    assert run.status().state == "interrupted"

    run.write_status(status_of(run, process_started=process_started(os.getpid()) - 500))
    assert run.status().state == "interrupted"

    run.write_status(status_of(run, state="completed", pid=child.pid))
    assert run.status().state == "completed"


def test_two_runs_of_one_second_have_two_directories(tmp_path: Path) -> None:
    """Names never collide, and odd adapter names make plain directory names."""
    store = RunStore(tmp_path)

    made = [store.create("a/b c", "", {}) for _ in range(3)]

    assert len({one.id for one in made}) == 3
    assert all(one.directory.parent == tmp_path for one in made)
    assert all(one.id.startswith("a-b-c-") for one in made)


def test_runs_are_listed_newest_first_and_found_by_id(tmp_path: Path) -> None:
    """A store lists what has a status, and an unknown id names the newest."""
    store = RunStore(tmp_path)
    for started in (1.0, 3.0, 2.0):
        made = store.create("bot", "", {})
        made.write_status(status_of(made, started=started))
    store.create("half", "", {})

    listed = store.all()

    assert [one.status().started for one in listed] == [3.0, 2.0, 1.0]
    assert store.get(listed[1].id).directory == listed[1].directory
    with pytest.raises(RunNotFound, match=listed[0].id):
        store.get("nonsense")


@pytest.mark.parametrize("content", [b"", b"{", b'{"format":"lccc-run/2"}', b'{"id":"\xff"}', None])
def test_a_broken_run_hurts_no_other(tmp_path: Path, content: bytes | None) -> None:
    """It is left out of the list and says what is wrong when asked for; the others are there."""
    store = RunStore(tmp_path)
    sound, broken = store.create("bot", "", {}), store.create("broken", "", {})
    sound.write_status(status_of(sound))
    if content is None:
        (broken.directory / "status.json").mkdir()
    else:
        (broken.directory / "status.json").write_bytes(content)

    assert [run.id for run in store.all()] == [sound.id]
    assert store.get(sound.id).status() == status_of(sound)
    with pytest.raises(RunNotFound, match=broken.id):
        store.get(broken.id).status()


def test_a_run_is_opened_without_reading_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are."""
    made = RunStore(tmp_path).create("bot", "", {})
    made.write_status(status_of(made))
    monkeypatch.setattr(RunStore, "all", lambda _: pytest.fail("the others were read"))

    assert RunStore(tmp_path).get(made.id).directory == made.directory


@pytest.mark.parametrize("run_id", ["", ".", "..", "../outside", "a/../../outside", "/outside"])
def test_an_id_never_leads_out_of_the_store(tmp_path: Path, run_id: str) -> None:
    """What lies beside the runs is no run."""
    outside = RunStore(tmp_path).create("outside", "", {})
    outside.write_status(status_of(outside))
    outside.directory.rename(tmp_path / "outside")
    (tmp_path / "runs" / "a").mkdir(parents=True)
    asked = str(tmp_path / "outside") if run_id.startswith("/") else run_id
    for place in (tmp_path, tmp_path / "runs"):
        (place / "status.json").write_bytes((tmp_path / "outside" / "status.json").read_bytes())

    with pytest.raises(RunNotFound, match="There is no run"):
        RunStore(tmp_path / "runs").get(asked)


def test_a_record_is_on_the_disk_before_it_has_its_name(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves the old status or the new one, never an empty file."""
    steps: list[str] = []

    def recorded(name: str) -> Callable[..., None]:
        real = getattr(os, name)

        def step(*arguments: object, **options: object) -> None:
            steps.append(name)
            real(*arguments, **options)

        return step

    for name in ("fsync", "rename", "replace"):
        monkeypatch.setattr(os, name, recorded(name))
    run.write("recipe.toml", "new")

    assert steps[0] == steps[-1] == "fsync"
    assert len(steps) == 3
    assert run.recipe_path.read_text() == "new"
    assert not list(run.directory.glob(".*"))


@pytest.mark.parametrize("pid", [-1, 0, 2**70])
def test_an_impossible_process_is_gone(run: Run, pid: int) -> None:
    """Whatever a record claims, reading it raises nothing."""
    run.write_status(status_of(run, pid=pid))

    assert run.status().state == "interrupted"


def test_an_empty_store_is_empty(tmp_path: Path) -> None:
    """No directory is needed to list nothing."""
    assert RunStore(tmp_path / "none").all() == []


def test_records_are_read_without_torch() -> None:
    """The server may read runs; that must not load the training libraries."""
    code = "import sys, training.runs; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
