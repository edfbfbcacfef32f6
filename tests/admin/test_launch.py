"""Training in several processes: what starts them, what they are asked, and how they break off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from adapters.home import Home
from admin import launch as launching
from admin.cli import main
from admin.launch import GroupDirectory, GroupFailed, Machines, command_line, launch
from tests.tiny import tiny_base
from tests.training.conftest import DIALOGUES, QUICK
from tests.waiting import eventually
from training.data.dataset import prepare
from training.runs import RunStore

SCRIPT = """
import sys, time
from pathlib import Path
group = Path(sys.argv[-1])
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A base and a dataset."""
    import json

    tiny_base(tmp_path / "tiny")
    (tmp_path / "raw.json").write_text(
        json.dumps({"train": DIALOGUES[:20], "valid": DIALOGUES[20:]})
    )
    prepare([tmp_path / "raw.json"], "small", tmp_path / "home" / "datasets")
    return Home(tmp_path / "home")


def playing(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A Python script in the place of the processes; ``group`` is its directory."""

    def command(_arguments: object, _processes: int, _machines: Machines, group: Path) -> list[str]:
        return [sys.executable, "-c", SCRIPT + body, str(group)]

    monkeypatch.setattr(launching, "command_line", command)


def test_the_first_failure_is_the_message_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever else waits is ended, and a later failure does not cover the first."""
    playing(
        monkeypatch,
        """
from admin.launch import GroupDirectory
GroupDirectory(group).fail("the reason")
GroupDirectory(group).fail("a consequence")
time.sleep(600)
""",
    )

    with pytest.raises(GroupFailed, match=r"^the reason$"):
        launch([], 2, Machines(), print)


def test_processes_that_crash_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their own words stand above; ours say how to go on."""
    playing(monkeypatch, "sys.exit(3)")

    with pytest.raises(GroupFailed, match="exit code 3"):
        launch([], 2, Machines(), print)


def test_a_signal_asks_for_a_clean_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The processes find it in their directory, and end by themselves."""
    began, ended = tmp_path / "began", tmp_path / "ended"
    playing(
        monkeypatch,
        f"""
Path({str(began)!r}).touch()
while not (group / "stop").exists():
    time.sleep(0.01)
Path({str(ended)!r}).touch()
""",
    )

    def interrupt() -> None:
        assert eventually(began.exists)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=interrupt)
    sender.start()
    launch([], 2, Machines(), print)
    sender.join()

    assert ended.exists()


def test_whom_nobody_looks_after_any_more_stops(tmp_path: Path) -> None:
    """The directory names the one who does; when it is gone, a training ends with a checkpoint."""
    group = GroupDirectory.made_in(tmp_path)
    assert not group.is_asked_to_stop()

    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    (tmp_path / "watcher").write_text(str(gone.pid))

    assert group.is_asked_to_stop()


def test_the_launcher_is_told_everything(tmp_path: Path) -> None:
    """Two machines of four processes: eight in all, and where they meet."""
    machines = Machines.of(2, 1, "10.0.0.1:2900")

    command = command_line(["train", "--data", "d"], 4, machines, tmp_path)

    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    for name, value in (
        ("num_processes", 8),
        ("num_machines", 2),
        ("machine_rank", 1),
        ("main_process_ip", "10.0.0.1"),
        ("main_process_port", 2900),
    ):
        assert command[command.index(f"--{name}") + 1] == str(value)
    assert command[-7:] == ["-m", "admin", "train", "--data", "d", "--group", str(tmp_path)]


@pytest.mark.parametrize(
    ("rank", "address", "said"),
    [(0, None, "--main-address HOST:PORT"), (2, "a:1", "counts from 0 to 1")],
)
def test_machines_that_cannot_meet_are_a_usage_error(
    rank: int, address: str | None, said: str
) -> None:
    """Before anything is started."""
    with pytest.raises(click.UsageError, match=said):
        Machines.of(2, rank, address)


def test_options_reach_the_processes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was asked for, as it was asked for; what is wrong is said before they start."""
    started: list[list[str]] = []
    monkeypatch.setattr("admin.commands.train.launch", lambda told, *_: started.append(list(told)))
    base = str(home.root.parent / "tiny")
    asked = ["--data", "small", "--name", "bot", "--base", base, "--set", "lora.r=4", "--set"]
    asked += ["lora.alpha=8", "--no-register", "--processes", "2"]

    done = CliRunner().invoke(main, ["--home", str(home.root), "train", *asked])
    wrong = CliRunner().invoke(main, ["--home", str(home.root), "train", *asked, "--data", "none"])

    assert done.exit_code == 0, done.stderr
    (told,) = started
    assert told[:3] == ["--home", str(home.root), "train"]
    for at in range(0, len(asked), 1):
        assert asked[at] in told
    assert told.count("--set") == 2
    assert wrong.exit_code == 1
    assert "No dataset is called 'none'" in wrong.stderr


@pytest.mark.slow
def test_two_processes_train_and_register(home: Home) -> None:
    """The whole way, through accelerate; and a run that is complete is refused in one line."""
    sets = [part for one in (*QUICK, "training.max_steps=3") for part in ("--set", one)]
    command = [sys.executable, "-m", "admin", "--home", str(home.root), "train", "--processes", "2"]
    more = ["--data", "small", "--name", "bot", "--base", str(home.root.parent / "tiny"), *sets]

    done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)

    (run,) = RunStore(home.runs).all()
    assert done.returncode == 0, done.stderr
    assert "Registered 'bot'" in done.stderr
    assert done.stderr.count("step 3/3  loss") == 1
    assert "--group" not in run.environment_path.read_text()
    again = subprocess.run(
        [*command, "--resume", run.id], capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert again.stderr == f"Error: The run {run.id} is complete; there is nothing to resume.\n"
