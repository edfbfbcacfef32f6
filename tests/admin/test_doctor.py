"""``lccc-admin doctor`` on sound and on broken machines."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.home import Home
from admin.cli import main
from admin.commands import doctor
from tests.tiny import tiny_base

Findings = dict[str, dict[str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home, and an empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return Home(tmp_path / "home")


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home.root), "doctor", *arguments])


def examine(home: Home) -> tuple[int, Findings]:
    """Exit code, and findings by subject; a subject that comes twice fails."""
    result = run(home, "--json")
    found = json.loads(result.stdout)
    subjects = [one["subject"] for one in found]
    assert len(set(subjects)) == len(subjects), subjects
    return result.exit_code, {one["subject"]: one for one in found}


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """Let these packages be neither listed nor importable."""
    real = doctor.version

    def version(name: str) -> str:
        if name in missing:
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setitem(sys.modules, "training.devices", None)


def test_a_sound_machine_has_no_problem(home: Home) -> None:
    """The real devices and the real bitsandbytes; what is not here yet comes with its command."""
    tiny_base(home.bases / "pocket")

    code, found = examine(home)

    assert code == 0
    assert {found[name]["verdict"] for name in ("Python", "CPU", "bitsandbytes NF4")} == {"ok"}
    assert found["packages"]["found"].count(" ") >= 7
    assert found["base pocket"]["found"] == "2 layers"
    assert found["base Qwen/Qwen3-0.6B"]["advice"] == (
        "`lccc-admin base Qwen/Qwen3-0.6B` downloads it."
    )
    assert found["adapters"]["found"] == "0 registered"


def test_missing_packages_are_the_finding(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """One problem, no "ok" beside it; what needs them is left out, the rest is still examined."""
    without(monkeypatch, "torch", "peft")

    code, found = examine(home)

    assert code == 1
    assert found["packages"]["verdict"] == "problem"
    assert found["packages"]["found"] == "missing: peft, torch"
    assert "pip install" in found["packages"]["advice"]
    assert [name for name, one in found.items() if one["verdict"] == "problem"] == ["packages"]
    assert {"Python", "home", "base pocket", "adapters"} <= found.keys()
    assert not {"CPU", "devices", "bitsandbytes NF4"} & found.keys()


def test_bases_in_a_hub_that_is_not_there_are_not_looked_for(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without transformers there is no hub's cache either."""
    without(monkeypatch, "transformers")

    _, found = examine(home)

    assert not [name for name in found if name.startswith("base ")]


def test_an_examination_that_breaks_is_a_finding(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is listed but cannot be imported: said for each examination, no traceback."""
    monkeypatch.setitem(sys.modules, "training.devices", None)

    code, found = examine(home)
    shown = run(home).stdout

    assert code == 1
    for subject in ("devices", "bitsandbytes NF4"):
        assert found[subject]["verdict"] == "problem"
        assert found[subject]["found"].startswith("ModuleNotFoundError: ")
    assert found["adapters"]["verdict"] == "ok"
    assert " problem  devices: ModuleNotFoundError: " in shown


def test_an_unusable_base_says_what_is_wrong_with_it(home: Home) -> None:
    """It is there, so "not here" would be a lie."""
    (home.bases / "pocket").mkdir(parents=True)
    (home.bases / "pocket" / "config.json").write_text('{"model_type": "gpt2"}')

    code, found = examine(home)

    assert code == 1
    assert found["base pocket"]["verdict"] == "problem"
    assert "is a 'gpt2' model; supported are" in found["base pocket"]["found"]
    assert "--rebuild" in found["base pocket"]["advice"]


def test_a_broken_adapter_is_named(home: Home) -> None:
    """With the reason, and how to be rid of it."""
    names = home.registry / "names"
    names.mkdir(parents=True)
    (names / "poet.json").write_text("{")

    _, found = examine(home)

    assert "poet.json" in found["adapter poet"]["found"]
    assert found["adapter poet"]["advice"] == "`lccc-admin adapters remove poet`"


def test_a_home_that_cannot_be_written_is_a_problem(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing could be trained or registered there."""
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)

    code, found = examine(home)

    assert code == 1
    assert found["home"]["found"] == f"{home.root} cannot be written"


def test_little_space_is_advice(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pocket` still fits."""
    monkeypatch.setattr(doctor, "NEEDED_BYTES", 2**80)

    _, found = examine(home)

    assert found["home"]["verdict"] == "advice"
    assert "GiB free" in found["home"]["found"]


def test_without_a_compiler_it_says_what_that_costs(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kernels are no problem, for torch computes then: slower, which is advice."""
    monkeypatch.setenv("CC", "no-such-compiler")
    tiny_base(home.bases / "pocket")

    code, found = examine(home)

    assert code == 0
    assert found["native kernels"]["verdict"] == "advice"
    assert "no-such-compiler" in found["native kernels"]["found"]
    assert "apt-get install gcc" in found["native kernels"]["found"]
