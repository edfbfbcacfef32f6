"""A trial in a process of its own: how signals reach it, what it inherits, and a real one."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from admin.cli import main
from admin.stopping import on_request
from admin.sweeps import process
from admin.sweeps.process import StopRequests, run_trial
from tests.tiny import tiny_base
from tests.training.conftest import DIALOGUES, QUICK
from tests.training.sweeps.writing import write
from tests.waiting import eventually
from training.data.dataset import prepare
from training.recipe import read_recipe
from training.runs import RunStore
from training.sweeps.lock import conducting, is_conducted

STUB = """
import os, signal, sys, time
from pathlib import Path
place, ends_at = Path(sys.argv[1]), int(sys.argv[2])
asked = 0
def ask(number, frame):
    global asked
    asked += 1
    (place / f"asked-{asked}").touch()
signal.signal(signal.SIGTERM, ask)
(place / "session").write_text(str(os.getsid(0) == os.getpid()))
print("said", flush=True)
while asked < ends_at:
    time.sleep(0.01)
raise SystemExit(3)
"""


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that counts the signals that reach it stands for a trial."""
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", STUB))


@contextmanager
def when(condition: Callable[[], bool], *numbers: signal.Signals) -> Iterator[None]:
    """Send this process ``numbers`` once ``condition`` holds."""
    over = threading.Event()

    def send() -> None:
        while not condition() and not over.is_set():  # a real trial takes its time to load torch
            over.wait(0.01)
        for number in () if over.is_set() else numbers:
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_signals_are_passed_on_one_by_one(
    tmp_path: Path, stub: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """A trial is out of reach of the terminal's Ctrl-C, and hears of each from its parent; what it
    prints goes to stderr.
    """
    before = signal.getsignal(signal.SIGINT)
    requests = StopRequests()
    with (
        conducting(tmp_path) as lock,
        on_request(requests.ask),
        when((tmp_path / "session").exists, signal.SIGINT),
        when((tmp_path / "asked-1").exists, signal.SIGTERM),
    ):
        ended = run_trial([str(tmp_path), "2"], lock, requests)

    assert ended.code == 3
    assert requests.count == 2
    assert (tmp_path / "asked-2").exists()
    assert (tmp_path / "session").read_text() == "True"
    assert capfd.readouterr() == ("", "said\n")
    assert signal.getsignal(signal.SIGINT) is before


def test_who_asks_otherwise_asks_once(tmp_path: Path, stub: None) -> None:
    """A trial is told to end as by one signal, however often one looks."""
    requests = StopRequests((tmp_path / "session").exists)
    with conducting(tmp_path) as lock:
        ended = run_trial([str(tmp_path), "1"], lock, requests)

    assert (ended.code, requests.look()) == (3, 1)


def test_a_trial_is_not_left_behind(tmp_path: Path, stub: None) -> None:
    """When its conductor breaks, it is asked to end and waited for; the lock is free then."""

    class Broken(StopRequests):
        @property
        def count(self) -> int:
            assert eventually((tmp_path / "session").exists)
            raise RuntimeError("a bug")

        @count.setter
        def count(self, _: int) -> None:
            pass

    with pytest.raises(RuntimeError, match="a bug"), conducting(tmp_path) as lock:
        run_trial([str(tmp_path), "1"], lock, Broken())

    assert (tmp_path / "asked-1").exists()
    assert not is_conducted(tmp_path)


def test_a_real_trial_is_stopped_with_a_checkpoint(tmp_path: Path) -> None:
    """SIGTERM to the sweep while a trial computes in its own process: both end as they should."""
    home = tmp_path / "home"
    tiny_base(tmp_path / "models" / "tiny")
    (tmp_path / "raw.json").write_text(
        json.dumps({"train": DIALOGUES[:20], "valid": DIALOGUES[20:]})
    )
    prepare([tmp_path / "raw.json"], "small", home / "datasets")
    recipe = read_recipe("qwen3-0.6b-lccc", [*QUICK, "training.max_steps=1000"])
    (tmp_path / "long.toml").write_text(recipe.toml(), encoding="utf-8")
    file = write(tmp_path / "rank.toml", {"lora.r": [4, 8]}, recipe="long.toml", base="models/tiny")
    runs = RunStore(home / "runs")

    def has_stepped() -> bool:
        return any(event.step for run in runs.all() for event in run.events())

    with when(has_stepped, signal.SIGTERM):
        done = CliRunner().invoke(main, ["--home", str(home), "sweep", str(file)])

    (run,) = runs.all()
    status = run.status()
    assert done.exit_code == 0, done.stderr
    assert "Stopped: 0 of 2 trials are done. Go on with:" in done.stderr
    assert (status.state, status.sweep, status.step > 0) == ("stopped", "rank", True)
    assert status.pid != os.getpid()
    assert (run.checkpoints / f"step-{status.step}").is_dir()
    command = json.loads(run.environment_path.read_text())["command"]
    assert command[command.index("--sweep") + 1] == "rank"
