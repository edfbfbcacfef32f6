"""One run's directory: its status, its lock, its small files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.records import make_run, status
from training.errors import RunBusy
from training.runs import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that claims to be running."""
    return make_run(tmp_path, state="running")


def test_a_run_that_nobody_holds_reads_as_interrupted(run: Run) -> None:
    """Killed without a word is not running for ever, whoever has its process number now."""
    assert run.status().state == "interrupted"
    with run.held():
        assert run.status() == status(id=run.id, state="running")
    assert run.status().state == "interrupted"

    run.write_status(status(id=run.id, state="completed"))
    assert run.status().state == "completed"


def test_the_kernel_lets_go_of_a_run_whose_process_was_killed(run: Run) -> None:
    """No lock outlives its holder, and no later process inherits it."""
    code = (
        "import sys, time, pathlib; from training.runs import Run\n"
        "with Run(pathlib.Path(sys.argv[1])).held(): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run.directory)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        held = run.status().state
        process.kill()
        process.wait()

    assert held == "running"
    assert run.status().state == "interrupted"


def test_one_process_at_a_time_writes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused with the number of the first; afterwards the run is free."""
    monkeypatch.setattr("adapters.storage.PROBES_S", 0.0)

    with run.held():
        with pytest.raises(RunBusy, match=rf"still running \(process {os.getpid()}\)"), run.held():
            pass
        assert run.is_held()
    with run.held():
        pass


def test_looking_does_not_look_like_holding(run: Run) -> None:
    """Two readers at once do not take each other for a training, nor keep one out for long."""
    descriptor = os.open(run.directory, os.O_RDONLY)
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_SH)
    try:
        assert not run.is_held()
    finally:
        os.close(descriptor)


def test_a_run_that_ends_while_it_is_looked_at_is_not_interrupted(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last word is read again before it is given up."""

    def ends(_: Run) -> bool:
        run.write_status(status(id=run.id, state="completed"))
        return False

    monkeypatch.setattr(Run, "is_held", ends)

    assert run.status().state == "completed"


def test_a_request_to_stop_is_seen_and_forgotten(run: Run) -> None:
    """By any process that looks at the directory."""
    assert not run.is_asked_to_stop()
    run.ask_to_stop()
    run.ask_to_stop()
    assert Run(run.directory).is_asked_to_stop()
    run.forget_stop()
    run.forget_stop()
    assert not run.is_asked_to_stop()


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


def test_records_are_read_without_torch() -> None:
    """The server may read runs; that must not load the training libraries."""
    code = "import sys, training.runs; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
