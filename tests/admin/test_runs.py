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

import pytest
from click.testing import CliRunner, Result

from adapters.home import Home
from admin.cli import main
from tests.records import STARTED, make_run, measure
from training.runs import EventLog, Run, RunState


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def record(home: Home) -> Run:
    """A run that was stopped half-way."""
    return make_run(home.runs)


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


def test_a_run_id_is_never_cut(home: Home) -> None:
    """It has to be copied: on 80 columns it stays on its line, and no cell loses a character."""
    record = make_run(home.runs, adapter="a-rather-long-adapter-name")

    shown = on_a_terminal(home, "list")

    assert record.id in shown
    assert "…" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_an_ordinary_list_fits_80_columns(home: Home) -> None:
    """One line a run."""
    record = make_run(home.runs, adapter="scholar", state="completed", base="pocket", step=300)

    *_, row = on_a_terminal(home, "list").splitlines()

    expected = [record.id, "completed", "300/300", "3.2568", "pocket", "demo-scholar"]
    assert row.split() == expected


def test_an_id_wider_than_the_terminal_is_folded(home: Home) -> None:
    """Then it takes several lines, and the other columns are still there."""
    record = make_run(home.runs, adapter="x" * 100)

    shown = on_a_terminal(home, "list")

    firsts = [line.split()[0] for line in shown.splitlines() if line and line[0] != " "]
    assert record.id in "".join(firsts)
    assert "3.25" in shown


def test_a_broken_record_hides_no_other(home: Home, record: Run) -> None:
    """Neither in the list nor when shown by id; the broken one says what is wrong with it."""
    broken = make_run(home.runs, adapter="broken")
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
    assert "pid" not in facts


def test_show_ends_with_the_last_metrics(home: Home, record: Run) -> None:
    """Twenty, and how many there are besides; `--all` and `--json` have every one."""
    measure(record, 30)
    log = EventLog(record.events_path)
    log.append("checkpoint", 30, path="checkpoints/step-30")
    log.close()

    short, whole = run(home, "show", record.id), run(home, "show", record.id, "--all")

    def steps(result: Result) -> list[int]:
        words = [line.split() for line in result.stdout.splitlines()]
        return [int(row[0]) for row in words if row and row[0].isdigit()]

    assert steps(short) == list(range(11, 31))
    assert "10 earlier ones are left out; --all shows them." in short.stderr
    assert steps(whole) == list(range(1, 31))
    assert "--all" not in whole.stderr
    assert len(json.loads(run(home, "show", record.id, "--json").stdout)["events"]) == 32


@pytest.mark.parametrize("state", ["stopped", "failed", "interrupted"])
def test_a_run_that_ended_early_can_be_continued(home: Home, state: RunState) -> None:
    """The line to copy, and from where it would go on."""
    record = make_run(home.runs, state=state)
    without = run(home, "show", record.id).stderr
    (record.checkpoints / "step-100").mkdir()
    with_one = run(home, "show", record.id).stderr

    assert (
        f"Begin it again (it has no checkpoint) with: lccc-admin train --resume {record.id}\n"
        in (without)
    )
    assert f"Continue it with: lccc-admin train --resume {record.id}\n" in with_one


def test_a_completed_run_is_not_continued(home: Home) -> None:
    """Whatever checkpoints it kept."""
    record = make_run(home.runs, state="completed")
    (record.checkpoints / "step-100").mkdir()

    assert "ontinue" not in run(home, "show", record.id).stderr
