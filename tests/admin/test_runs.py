"""``lccc-admin runs``: the records as a person, a narrow terminal and a pipe see them."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.base import read_base
from adapters.home import Home
from adapters.manifest import PROJECTIONS, Manifest, RunRef
from adapters.registry import Registry
from admin.cli import main
from tests.admin.terminal import on_a_terminal
from tests.records import STARTED, make_run, measure, status
from tests.tiny import random_adapter, tiny_base
from training.runs import EventLog, Run, RunState, Sample


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def record(home: Home) -> Run:
    """A run that was stopped half-way."""
    return make_run(home.runs)


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home.root), "runs", *arguments])


def shown_of(home: Home, *arguments: str) -> str:
    """What a terminal shows of it, without colours."""
    command = ["-m", "admin", "--home", home.root, "runs", *arguments]
    return re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(command, TERM="xterm", NO_COLOR="1"))


def test_a_run_id_is_never_cut(home: Home) -> None:
    """It has to be copied: on 80 columns it stays on its line, and no cell loses a character."""
    record = make_run(home.runs, adapter="a-rather-long-adapter-name")

    shown = shown_of(home, "list")

    assert record.id in shown
    assert "…" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_an_ordinary_list_fits_80_columns(home: Home) -> None:
    """One line a run."""
    record = make_run(home.runs, adapter="scholar", state="completed", base="pocket", step=300)

    *_, row = shown_of(home, "list").splitlines()

    expected = [record.id, "completed", "300/300", "3.2568", "pocket", "demo-scholar"]
    assert row.split() == expected


def test_an_id_wider_than_the_terminal_is_folded(home: Home) -> None:
    """Then it takes several lines, and the other columns are still there."""
    record = make_run(home.runs, adapter="x" * 100)

    shown = shown_of(home, "list")

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


def test_show_has_the_newest_replies_of_the_model(home: Home, record: Run) -> None:
    """With what the data has, and how their figures went."""
    with closing(EventLog(record.events_path)) as log:
        for step, reply in ((10, "啊啊啊"), (20, "多喝水")):
            said = (Sample("好热", reply, "喝水吧"),)
            log.append("samples", step, scores={"bleu_4_characters": step / 2}, replies=said)

    shown = run(home, "show", record.id).stdout

    assert "BLEU-4 of characters, %" in shown
    assert ["20", "10.0"] in [line.split() for line in shown.splitlines()]
    assert ["好热", "多喝水", "喝水吧"] in [line.split() for line in shown.splitlines()]
    assert "啊啊啊" not in shown


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


def ending(record: Run, state: RunState, after: int) -> Callable[[], None]:
    """Stands for the time between two looks: a step is made, and after so many the run ends."""
    looks = count(1)

    def pass_time() -> None:
        step = next(looks)
        measure(record, 1, first=step)
        if step == after:
            record.write_status(status(id=record.id, state=state, step=step, error="no reason"))

    return pass_time


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("stopped", 0), ("failed", 1)])
def test_watching_ends_with_the_run(
    home: Home, monkeypatch: pytest.MonkeyPatch, state: RunState, code: int
) -> None:
    """Every event is a line, and the exit code says whether the training broke off."""
    record = make_run(home.runs, state="running")
    monkeypatch.setattr("admin.records.watch._pause", ending(record, state, after=3))

    with record.held():
        result = run(home, "watch", record.id)

    lines = result.stdout.splitlines()
    assert lines[0] == "step 0  running: started"
    assert [line.split()[1] for line in lines[1:]] == ["1", "2", "3"]
    assert "loss 3.9900" in lines[1]
    assert result.exit_code == code
    if code:
        assert f"The run {record.id} was failed at step 3: no reason" in result.stderr


def test_watching_in_json_is_the_log_itself(home: Home, record: Run) -> None:
    """Line for line."""
    measure(record, 3)

    result = run(home, "watch", record.id, "--json")

    assert result.stdout == record.events_path.read_text()


def test_watching_on_a_terminal_is_a_picture(home: Home, record: Run) -> None:
    """Progress, the loss and its curve, speed; of a run that has ended the last picture stays."""
    measure(record, 30)

    shown = shown_of(home, "watch", record.id)

    for part in (record.id, "stopped", "150/300", "50%", "3.7000", "█", "▁", "123"):
        assert part in shown


def test_no_longer_watching_leaves_the_training_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the command as a shell expects, and says how to stop the training."""
    record = make_run(home.runs, state="running")

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("admin.records.watch._pause", interrupted)
    with record.held():
        result = run(home, "watch", record.id)

    assert result.exit_code == 130
    assert f"`lccc-admin runs stop {record.id}` stops the training" in result.stderr
    assert not record.is_asked_to_stop()


def test_plots_are_written_where_asked(
    home: Home, record: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is the result; by default it is the first run's name."""
    measure(record, 5)
    other = make_run(home.runs, adapter="other")
    measure(other, 5)
    chart = tmp_path / "chart.html"

    result = run(home, "plot", record.id, other.id, "--output", str(chart), "--log")
    monkeypatch.chdir(tmp_path)
    default = run(home, "plot", record.id, "--smoothing", "0.5")

    assert result.stdout == f"{chart}\n"
    assert other.id in chart.read_text()
    assert default.stdout == f"{record.id}.svg\n"
    assert (tmp_path / f"{record.id}.svg").is_file()


def test_every_quantity_of_the_command_can_be_plotted() -> None:
    """The choices are those of the charts; the command does not load them for its help."""
    from admin.commands.runs import QUANTITIES as OFFERED
    from admin.records.chart import QUANTITIES

    assert tuple(QUANTITIES) == OFFERED


def test_a_plot_of_nothing_is_refused(home: Home, record: Run) -> None:
    """One message, and no file."""
    result = run(home, "plot", record.id)

    assert result.exit_code == 1
    assert "There is nothing to plot" in result.stderr


def test_a_comparison_is_a_table_or_json(home: Home, tmp_path: Path) -> None:
    """What came of the runs, then what differs in how they were made."""
    runs = [make_run(home.runs, recipe=f"[lora]\nr = {rank}\n") for rank in (8, 16)]
    ids = [one.id for one in runs]

    table, as_json = run(home, "compare", *ids), run(home, "compare", *ids, "--json")

    rows = [line.split() for line in table.stdout.splitlines()]
    assert rows[0] == ids
    assert ["state", "stopped", "stopped"] in rows
    assert rows[-1] == ["lora.r", "8", "16"]
    assert json.loads(as_json.stdout)["made"] == {"lora.r": [8, 16]}

    twin = make_run(home.runs, recipe="[lora]\nr = 8\n")
    assert "same recipe" in run(home, "compare", ids[0], twin.id).stderr


def test_stopping_asks_and_waits(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains sees the request; the command ends when the run has."""
    record = make_run(home.runs, state="running")

    def pass_time(_: float) -> None:
        assert record.is_asked_to_stop()
        record.write_status(status(id=record.id, state="stopped", step=7))

    monkeypatch.setattr("admin.commands.runs.time.sleep", pass_time)
    with record.held():
        result = run(home, "stop", record.id)

    assert (result.exit_code, result.stderr) == (0, f"The run {record.id} is stopped at step 7.\n")


def test_stopping_does_not_wait_for_ever(home: Home) -> None:
    """A run that does not end in time is a failure that names the process; 0 only asks."""
    record = make_run(home.runs, state="running")

    with record.held():
        impatient = run(home, "stop", record.id, "--timeout", "0.01")
        asked = run(home, "stop", record.id, "--timeout", "0")

    assert impatient.exit_code == 1
    assert "has not ended within 0.01 s. It still will" in impatient.stderr
    assert f"kill {os.getpid()}" in impatient.stderr
    assert (asked.exit_code, asked.stderr) == (
        0,
        f"The run {record.id} will end after its present step.\n",
    )


def test_what_does_not_run_is_not_stopped(home: Home, record: Run) -> None:
    """It says how it stands, and leaves no request behind for a later resumption."""
    result = run(home, "stop", record.id)

    assert (result.exit_code, result.stderr) == (
        0,
        f"The run {record.id} is not running: it is stopped.\n",
    )
    assert not record.is_asked_to_stop()


def test_verifying_names_what_is_damaged(home: Home, record: Run) -> None:
    """Exit code 1, and the same as JSON; a run without files says so."""
    empty = run(home, "verify", record.id)
    (record.checkpoints / "step-3").mkdir()
    broken, as_json = run(home, "verify", record.id), run(home, "verify", record.id, "--json")

    assert empty.exit_code == 0
    assert "neither a checkpoint nor an adapter" in empty.stderr
    assert (broken.exit_code, as_json.exit_code) == (1, 1)
    assert broken.stdout.startswith("checkpoints/step-3: ")
    assert "manifest.json" in json.loads(as_json.stdout)["checkpoints/step-3"][0]


def test_runs_are_deleted_with_their_files(home: Home, record: Run) -> None:
    """Several at once; the others stay."""
    other, kept = make_run(home.runs, adapter="other"), make_run(home.runs, adapter="kept")

    result = run(home, "rm", record.id, other.id, "--yes")

    assert (result.exit_code, result.stdout) == (0, f"{record.id}\n{other.id}\n")
    assert [path.name for path in home.runs.iterdir()] == [kept.id]


def test_a_running_run_is_never_deleted(home: Home, record: Run) -> None:
    """Not even by force, and none of those named beside it."""
    running = make_run(home.runs, adapter="busy", state="running")

    with running.held():
        result = run(home, "rm", record.id, running.id, "--force", "--yes")

    assert result.exit_code == 1
    assert f"The run {running.id} is still running" in result.stderr
    assert record.recipe_path.is_file()
    assert running.recipe_path.is_file()


def test_the_provenance_of_an_adapter_is_deleted_by_force_alone(
    home: Home, record: Run, tmp_path: Path
) -> None:
    """The registered adapter itself is a copy and stays."""
    base = read_base(tiny_base(tmp_path / "tiny"), "tiny")
    source = random_adapter(tmp_path / "adapter", base.path, base_name="tiny")
    manifest = Manifest(
        base=base.ref,
        rank=4,
        alpha=8.0,
        target_modules=PROJECTIONS,
        run=RunRef(id=record.id, dataset="d", dataset_sha256="0", recipe_sha256="0", steps=1),
    )
    (source / "adapter.json").write_bytes(manifest.encoded())
    registry = Registry(home.registry)
    registry.register(source, "bot", base)

    refused = run(home, "rm", record.id, "--yes")
    forced = run(home, "rm", record.id, "--yes", "--force")

    assert refused.exit_code == 1
    assert "made the registered adapter bot" in refused.stderr
    assert (forced.exit_code, forced.stdout) == (0, f"{record.id}\n")
    assert registry.verify("bot") == []
