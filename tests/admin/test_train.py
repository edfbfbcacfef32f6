"""``lccc-admin train``: what it says, where it stops, how it goes on."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.errors import AdapterInvalid
from adapters.home import Home
from adapters.registry import Registry
from admin.cli import main
from admin.options import TRACKERS as OFFERED
from admin.stopping import stop_on_signal
from tests.tiny import tiny_base
from tests.training.conftest import DIALOGUES, QUICK
from tests.waiting import eventually
from training.data.dataset import prepare
from training.runs import RunStore
from training.trackers import TRACKERS

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STEPS = [part for one in (*QUICK, "training.max_steps=3") for part in ("--set", one)]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in a directory of its own and a dataset."""
    root = tmp_path_factory.mktemp("material")
    tiny_base(root / "models" / "foo bar")
    (root / "raw.json").write_text(
        json.dumps({"train": DIALOGUES[:20], "valid": DIALOGUES[20:]}), encoding="utf-8"
    )
    prepare([root / "raw.json"], "small", root / "datasets")
    return root


@pytest.fixture
def model(material: Path) -> Path:
    return material / "models" / "foo bar"


@pytest.fixture
def home(tmp_path: Path, material: Path) -> Home:
    """An empty home but for the dataset; the base is not under it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "datasets").symlink_to(material / "datasets")
    return Home(tmp_path / "home")


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of the hub instead of the developer's."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def run(home: Home, *arguments: object) -> Result:
    command = ["--home", str(home.root), "train", *map(str, arguments)]
    return CliRunner().invoke(main, command)


def new(home: Home, base: object, *more: object) -> Result:
    return run(home, "--data", "small", "--name", "bot", "--base", base, *STEPS, *more)


def stopping_after(polls: int) -> Callable[..., AbstractContextManager[Callable[[], bool]]]:
    """Stands for a Ctrl-C that comes when the loop has asked ``polls`` times."""
    asked = count(1)
    return lambda _say: nullcontext(lambda: next(asked) > polls)


def test_a_stopped_training_on_a_directory_goes_on_and_says_how_to_use_it(
    home: Home, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base was given as a path: resuming finds it, and every line to copy names it."""
    with monkeypatch.context() as stopped:
        stopped.setattr("admin.commands.train.stop_on_signal", stopping_after(2))
        first = new(home, model)
    (record,) = RunStore(home.runs).all()

    assert first.exit_code == 0, first.stderr
    assert record.status().state == "stopped"
    assert f"Stopped at step {record.status().step} of 3." in first.stderr
    assert f"  lccc-admin train --resume {record.id}\n" in first.stderr

    resumed = run(home, "--resume", record.id)

    assert resumed.exit_code == 0, resumed.stderr
    assert "Registered 'bot' (best validation loss " in resumed.stderr
    assert f"  lccc-admin serve --base {shlex.quote(str(model))}\n" in resumed.stderr
    assert record.status().state == "completed"
    assert Registry(home.registry).get("bot").manifest.base.name == "foo bar"


def test_a_signal_from_outside_ends_a_training_cleanly(home: Home, model: Path) -> None:
    """SIGTERM while it trains: a checkpoint, how to go on, and exit code 0."""

    def terminate() -> None:
        assert eventually(lambda: any(run.log_path.exists() for run in RunStore(home.runs).all()))
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=terminate)
    sender.start()
    result = new(home, model, "--set", "training.max_steps=100000", "--no-register")
    sender.join()

    (record,) = RunStore(home.runs).all()
    status = record.status()
    assert result.exit_code == 0, result.stderr
    assert status.state == "stopped"
    assert (record.checkpoints / f"step-{status.step}").is_dir()
    assert "Stopping after this step, with a checkpoint" in result.stderr


def test_without_registration_the_command_for_it_works(home: Home, model: Path) -> None:
    """The printed line is run as it stands."""
    trained = new(home, model, "--no-register")
    assert Registry(home.registry).snapshot().entries == {}

    (line,) = [line for line in trained.stderr.splitlines() if "adapters register" in line]
    words = shlex.split(line)
    done = CliRunner().invoke(main, ["--home", str(home.root), *words[1:]])

    assert words[0] == "lccc-admin"
    assert done.exit_code == 0, done.stderr
    assert list(Registry(home.registry).snapshot().entries) == ["bot"]


def test_a_refused_registration_tells_where_the_adapter_lies(
    home: Home, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of training are not lost: the directory and the command, then the reason."""

    def register(_self: Registry, source: Path, *_: object) -> None:
        raise AdapterInvalid(source, ["a reason"])

    monkeypatch.setattr(Registry, "register", register)

    result = new(home, model)

    (record,) = RunStore(home.runs).all()
    assert (record.adapter / "adapter_model.safetensors").is_file()
    assert result.exit_code == 1
    assert result.stderr.endswith(
        f"  lccc-admin adapters register {record.adapter} --name bot --base '{model}'\n"
        f"Error: {record.adapter} was refused, the registry is unchanged:\n  - a reason\n"
    )


def test_a_dry_run_prints_recipe_and_plan_and_leaves_nothing(home: Home, model: Path) -> None:
    """The resolved values on stdout, no run."""
    result = new(home, model, "--dry-run")

    assert result.exit_code == 0, result.stderr
    assert "max_steps = 3" in result.stdout
    assert "3 of 4 dialogues (5 an epoch)" in result.stdout
    assert re.search(r"^disk \(at most\) +\d+ MiB", result.stdout, re.MULTILINE)
    assert not home.runs.exists()


def test_a_dry_run_shows_what_mode_and_checkpointing_cost(home: Home, model: Path) -> None:
    """Dialogues a step, the learning rate that comes of them, and what would be quicker."""
    fuller = ("training.mode=throughput", "training.tokens_per_forward=1500")
    sets = [part for one in fuller for part in ("--set", one)]

    result = new(home, model, *sets, "--set", "training.gradient_checkpointing=true", "--dry-run")

    assert result.exit_code == 0, result.stderr
    (many,) = re.findall(r"^steps +1 of (\d+) dialogues instead of 4", result.stdout, re.MULTILINE)
    assert re.search(r"^tokens in one forward +1500 at most", result.stdout, re.MULTILINE)
    assert re.search(
        r"^gradient checkpointing +true: 2 of 2 layers computed again, 1\.\d+ times",
        result.stdout,
        re.MULTILINE,
    )
    assert f"Throughput mode: {many} dialogues a step instead of 4" in result.stderr
    assert "--set training.gradient_checkpointing=auto" in result.stderr


def test_a_plan_as_json_has_the_same_as_values(home: Home, model: Path) -> None:
    """For programs, such as the console; alone it means nothing."""
    plan = json.loads(new(home, model, "--dry-run", "--json").stdout)

    assert (plan["steps"], plan["dialogues_per_step"], plan["steps_per_epoch"]) == (3, 4, 5)
    assert plan["recipe"]["training"]["max_steps"] == 3
    assert "training.max_steps" in plan["changed"]
    assert "prompt.system" not in plan["changed"]
    assert plan["memory_total"] == sum(plan["memory"].values()) > 0
    assert (plan["pace"], plan["is_served"]) == (None, True)
    alone = new(home, model, "--json")
    assert (alone.exit_code, "--dry-run" in alone.stderr) == (2, True)


@pytest.mark.parametrize(("base", "verb"), [("pocket", "builds it"), ("org/model", "downloads it")])
def test_a_dry_run_gets_no_base(
    home: Home, monkeypatch: pytest.MonkeyPatch, base: str, verb: str
) -> None:
    """It says why one is needed and how to get it, and builds or downloads nothing."""
    done: list[str] = []
    monkeypatch.setattr("training.download.download_base", done.append)
    monkeypatch.setattr("training.pocket.base.build_pocket", lambda *_, **__: done.append("pocket"))

    result = new(home, base, "--dry-run")

    assert (result.exit_code, result.stdout, done) == (1, "", [])
    assert result.stderr == (
        "Error: --dry-run counts tokens with the base's own tokenizer, and "
        f"'{base}' is not on this machine. `lccc-admin base {base}` {verb}.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--name", "bot"), "Missing option '--data' (or --resume RUN)."),
        (("--data", "small"), "Missing option '--name' (or --resume RUN)."),
        (("--resume", "r", "--data", "d"), "--data cannot go with --resume"),
        (("--resume", "r", "--set", "a=1"), "--set cannot go with --resume"),
    ],
)
def test_what_cannot_go_together_is_a_usage_error(
    home: Home, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, before anything is read."""
    result = run(home, *arguments)

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_tracker_that_is_not_installed_is_refused_first(
    home: Home, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the data are encoded; the choices are those that there are."""
    monkeypatch.setitem(sys.modules, "trackio", None)
    monkeypatch.setattr("training.train.plan_training", lambda *_: pytest.fail("too late"))

    result = new(home, model, "--report-to", "trackio")

    assert result.exit_code == 1
    assert "pip install trackio" in result.stderr
    assert tuple(TRACKERS) == OFFERED


def test_an_adapter_that_cannot_be_served_is_said_twice(home: Home, model: Path) -> None:
    """Before the training, also of a dry run, and after it; nothing is printed that would fail."""
    dora = ("--set", "lora.kind=dora")
    dry, trained = new(home, model, *dora, "--dry-run"), new(home, model, *dora)

    (record,) = RunStore(home.runs).all()
    for said in (dry.stderr, trained.stderr):
        assert "DoRA changes the lengths of the base's weights" in said
    assert trained.exit_code == 0
    assert f"Finished. The adapter lies in {record.adapter}, for PEFT" in trained.stderr
    assert "register" not in trained.stderr.replace("will not be registered", "")


def test_an_impossible_name_is_refused_before_the_training(home: Home, model: Path) -> None:
    """Not after hours of it."""
    result = run(home, "--data", "small", "--name", "../x", "--base", model)

    assert result.exit_code == 1
    assert "cannot be used" in result.stderr
    assert not home.runs.exists()


@pytest.fixture
def no_signal_is_ignored() -> Iterator[None]:
    """As in a terminal: whoever runs the tests by ``nohup`` has SIGHUP ignored."""
    inherited = {one: signal.signal(one, signal.SIG_DFL) for one in ASKING}
    yield
    for one, handler in inherited.items():
        signal.signal(one, handler)


@pytest.mark.usefixtures("no_signal_is_ignored")
@pytest.mark.parametrize("number", ASKING)
def test_the_first_signal_asks_and_the_second_interrupts(number: signal.Signals) -> None:
    """The handler writes nothing, it may run within another write; the loop's question says it,
    once. Afterwards the old handlers are back.
    """
    before = [signal.getsignal(one) for one in ASKING]
    said: list[str] = []
    with stop_on_signal(said.append) as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), number)
        assert said == []
        assert should_stop()
        assert should_stop()
        assert said == ["Stopping after this step, with a checkpoint (again: at once) …"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert [signal.getsignal(one) for one in ASKING] == before


def test_a_training_told_to_outlive_its_terminal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under nohup a closed terminal is ignored; and one that is gone cannot be written to."""

    def gone(_: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal(gone) as should_stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not should_stop()
            os.kill(os.getpid(), signal.SIGTERM)
            assert should_stop()
    finally:
        signal.signal(signal.SIGHUP, previous)
