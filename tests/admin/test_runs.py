"""``lccc-admin runs``: the records as a person, a narrow terminal and a pipe see them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.home import Home
from admin.cli import main
from training.runs import Metric, Run, RunState, RunStatus, RunStore

STARTED = 1767225600.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def record(home: Home) -> Run:
    """A run that was stopped half-way."""
    return write(home, "bot")


def write(home: Home, adapter: str, state: RunState = "stopped", started: float = STARTED) -> Run:
    made = RunStore(home.runs).create(adapter, "[lora]\n", {})
    made.write_status(
        RunStatus(
            id=made.id,
            state=state,
            adapter=adapter,
            base="Qwen/Qwen3-0.6B",
            dataset="demo-scholar",
            total_steps=300,
            started=started,
            updated=started + 60,
            pid=1,
            process_started=0.0,
            step=150,
            validation_nll=3.25678,
        )
    )
    return made


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home.root), "runs", *arguments])


def on_a_terminal(home: Home, *arguments: str) -> str:
    """What a real (pseudo) terminal of 80 columns shows."""
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "admin", "--home", str(home.root), "runs", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"},
    ) as process:
        os.close(terminal)
        shown = b""
        while block := _read(screen):
            shown += block
    os.close(screen)
    assert process.returncode == 0, shown.decode()
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 1 << 16)
    except OSError:  # Linux ends a terminal nobody writes to any more with an error
        return b""


def measure(record: Run, steps: int) -> None:
    for step in range(1, steps + 1):
        record.append(Metric(kind="train", step=step, time=STARTED, loss=4.0, tokens_per_s=123.4))


def test_a_run_id_is_never_cut(home: Home) -> None:
    """It has to be copied: on 80 columns it stays on its line, and no cell loses a character."""
    record = write(home, "a-rather-long-adapter-name")

    shown = on_a_terminal(home, "list")

    assert record.id in shown
    assert "…" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_an_ordinary_list_fits_80_columns(home: Home) -> None:
    """One line a run."""
    record = write(home, "scholar", "completed")
    status = msgspec.structs.replace(record.status(), base="pocket", step=300)
    record.write_status(status)

    *_, row = on_a_terminal(home, "list").splitlines()

    expected = [record.id, "completed", "300/300", "3.2568", "pocket", "demo-scholar"]
    assert row.split() == expected


def test_an_id_wider_than_the_terminal_is_folded(home: Home) -> None:
    """Then it takes several lines, and the other columns are still there."""
    record = write(home, "x" * 100)

    shown = on_a_terminal(home, "list")

    firsts = [line.split()[0] for line in shown.splitlines() if line and line[0] != " "]
    assert record.id in "".join(firsts)
    assert "3.25" in shown


def test_a_broken_record_hides_no_other(home: Home, record: Run) -> None:
    """Neither in the list nor when shown by id; the broken one says what is wrong with it."""
    broken = write(home, "broken")
    (broken.directory / "status.json").write_text("{")

    listed = json.loads(run(home, "list", "--json").stdout)

    assert [status["id"] for status in listed] == [record.id]
    assert run(home, "show", record.id).exit_code == 0
    assert "status.json cannot be read" in run(home, "show", broken.id).stderr


def test_nothing_yet_says_how_to_begin(home: Home) -> None:
    """To the person; the pipe gets nothing, or an empty list."""
    result = run(home, "list")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "No runs yet." in result.stderr
    assert json.loads(run(home, "list", "--json").stdout) == []


def test_show_prints_local_times_and_no_process_of_the_past(home: Home, record: Run) -> None:
    """Seconds since 1970 are for machines."""
    facts = dict(
        line.split(maxsplit=1) for line in run(home, "show", record.id).stdout.splitlines()[1:]
    )

    local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(STARTED))
    assert facts["started"].strip() == local
    assert facts["state"].strip() == "stopped"
    assert not {"pid", "process_started"} & facts.keys()


def test_show_ends_with_the_last_metrics(home: Home, record: Run) -> None:
    """Twenty, and how many there are besides; `--all` and `--json` have every one."""
    measure(record, 30)
    record.append(Metric(kind="checkpoint", step=30, time=STARTED, path="checkpoints/step-30"))

    short, whole = run(home, "show", record.id), run(home, "show", record.id, "--all")

    def steps(result: Result) -> list[int]:
        words = [line.split() for line in result.stdout.splitlines()]
        return [int(row[0]) for row in words if row and row[0].isdigit()]

    assert steps(short) == list(range(11, 31))
    assert "10 earlier ones are left out; --all shows them." in short.stderr
    assert steps(whole) == list(range(1, 31))
    assert "--all" not in whole.stderr
    assert len(json.loads(run(home, "show", record.id, "--json").stdout)["metrics"]) == 31


@pytest.mark.parametrize("state", ["stopped", "failed", "interrupted"])
def test_a_run_with_a_checkpoint_can_be_continued(home: Home, state: RunState) -> None:
    """The line to copy is printed only where it would work."""
    record = write(home, "bot", state)
    without = run(home, "show", record.id).stderr
    (record.checkpoints / "step-100").mkdir()
    with_one = run(home, "show", record.id).stderr

    assert "--resume" not in without
    assert "It has no checkpoint to continue from." in without
    assert f"Continue it with: lccc-admin train --resume {record.id}" in with_one


def test_a_completed_run_is_not_continued(home: Home) -> None:
    """Whatever checkpoints it kept."""
    record = write(home, "bot", "completed")
    (record.checkpoints / "step-100").mkdir()

    assert "ontinue" not in run(home, "show", record.id).stderr
