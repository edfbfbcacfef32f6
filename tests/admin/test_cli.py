"""The root command: quick help, one door for errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from admin.cli import main

HEAVY = [
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "datasets",
    "litestar",
    "uvicorn",
    "rich",
]
WALK = f"""
import json, sys
import click
from admin.cli import main

def walk(command, path):
    main([*path, "--help"], prog_name="lccc-admin", standalone_mode=False)
    yield " ".join(path), [name for name in {HEAVY} if name in sys.modules]
    for name, below in getattr(command, "commands", {{}}).items():
        yield from walk(below, [*path, name])

print(json.dumps(dict(walk(main, []))), file=sys.stderr)
"""


def test_help_of_every_command_loads_nothing_heavy() -> None:
    """Help comes at once: no command module imports a heavy library at its top."""
    done = subprocess.run(
        [sys.executable, "-c", WALK], capture_output=True, text=True, check=True, timeout=60
    )
    loaded: dict[str, list[str]] = json.loads(done.stderr)

    assert {"", "train", "data", "data prepare", "runs show", "demo", "doctor"} <= loaded.keys()
    assert {path: names for path, names in loaded.items() if names} == {}


def test_python_dash_m_admin_is_the_command() -> None:
    """As installed, so without."""
    done = subprocess.run(
        [sys.executable, "-m", "admin", "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "Start with `lccc-admin demo`." in done.stdout


def test_every_command_has_help() -> None:
    """A first sentence for the list, and a text for each option."""

    def commands(command: click.Command) -> list[click.Command]:
        below = command.commands.values() if isinstance(command, click.Group) else []
        return [command, *(one for each in below for one in commands(each))]

    for command in commands(main):
        assert command.get_short_help_str(), command.name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{command.name} {parameter.name}"


def test_an_expected_error_is_one_line(tmp_path: Path) -> None:
    """On stderr, exit code 1, nothing on stdout."""
    result = CliRunner().invoke(main, ["--home", str(tmp_path), "runs", "show", "nobody"])

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: There is no run 'nobody'. Newest runs: none yet.\n"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["runs", "show"], ["runs", "list", "--nonsense"], ["chat", "x"]]
)
def test_a_slip_of_the_pen_is_a_usage_error(arguments: list[str]) -> None:
    """Exit code 2, and where help is."""
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 2
    assert "--help" in result.stderr


def test_a_bug_shows_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever nobody expected goes up as it is, with its traceback."""

    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("training.runs.RunStore.all", broken)

    result = CliRunner().invoke(main, ["--home", str(tmp_path), "runs", "list"])

    assert isinstance(result.exception, ZeroDivisionError)
