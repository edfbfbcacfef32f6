"""``lccc-admin evaluate``: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.base import read_base
from adapters.base_evaluations import BaseEvaluations
from adapters.home import Home
from adapters.registry import Registry
from admin.cli import main
from tests.tiny import random_adapter, tiny_base
from tests.training.conftest import DIALOGUES
from training.data.dataset import prepare

QUICK = ("--max-tokens", "4", "--replies", "3", "--dtype", "fp32")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A tiny base, a dataset, and one registered adapter."""
    home = Home(tmp_path_factory.mktemp("evaluate") / "home")
    base = read_base(tiny_base(home.bases / "tiny"), "tiny")
    raw = home.root / "raw.json"
    raw.write_text(json.dumps({"train": DIALOGUES[:20], "valid": DIALOGUES[20:]}), "utf-8")
    prepare([raw], "small", home.datasets)
    Registry(home.registry).register(random_adapter(home.root / "cat", base.path), "cat", base)
    return home


def run(home: Home, *arguments: object) -> Result:
    command = ["--home", str(home.root), "evaluate", *map(str, arguments)]
    return CliRunner().invoke(main, command)


def test_models_stand_side_by_side_and_the_report_has_all(home: Home, tmp_path: Path) -> None:
    """A directory is a model too; what is registered and the base keep what was measured."""
    other = random_adapter(tmp_path / "other", home.bases / "tiny", seed=3)
    report = tmp_path / "report.html"

    done = run(home, "tiny", "cat", other, "--data", "small", *QUICK, "--report", report)

    assert done.exit_code == 0, done.stderr
    head = done.stdout.splitlines()[0].split()
    assert head == ["tiny", "cat", "other", "(the", "data)"]
    assert "BLEU-4 of characters, %" in done.stdout
    assert "Recorded in the manifest of 'cat'." in done.stderr
    assert "Only 3 replies were compared" in done.stderr
    written = report.read_text("utf-8")
    assert "perplexity per character" in written
    assert "<script" not in written
    (kept,) = Registry(home.registry).get("cat").manifest.measured
    assert (kept.dataset, kept.split, kept.replies) == ("small", "validation", 3)
    ref = read_base(home.bases / "tiny", "tiny").ref
    (of_base,) = BaseEvaluations(home.evaluations).of(ref)
    assert (of_base.subject, of_base.measured) == (kept.subject, kept.measured)
    assert of_base.metrics != kept.metrics
    shown = CliRunner().invoke(main, ["--home", str(home.root), "base", "tiny"])
    assert "Measured on small, validation, " in shown.stderr


def test_json_has_every_reply_and_can_leave_no_trace(home: Home) -> None:
    """For other programs; --no-record only looks."""
    before = Registry(home.registry).signature()
    kept = [path.stat() for path in home.evaluations.glob("*.json")]

    done = run(home, "tiny", "cat", "--data", "small", *QUICK, "--no-record", "--json")

    found = json.loads(done.stdout)
    assert done.exit_code == 0, done.stderr
    assert len(found["models"][1]["answers"]) == 3
    assert found["models"][1]["metrics"]["perplexity_per_character"] > 1
    assert Registry(home.registry).signature() == before
    assert [path.stat() for path in home.evaluations.glob("*.json")] == kept


def test_own_prompts_are_asked_and_text_is_shown_as_text(home: Home, tmp_path: Path) -> None:
    """In a report nothing that somebody wrote becomes markup."""
    (tmp_path / "mine.txt").write_text("<b>你好|</b>\n", encoding="utf-8")
    report = tmp_path / "report.md"
    asked = ("--prompts", tmp_path / "mine.txt", "--report", report)

    done = run(home, "tiny", "--data", "small", *QUICK, *asked)

    assert done.exit_code == 0, done.stderr
    assert r"&lt;b&gt;你好\|&lt;/b&gt;" in report.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("dog", "--data", "small", "--base", "tiny"), "There are: tiny, cat."),
        (("cat", "--data", "small", "--report", "x.pdf"), "ends in .md or .html"),
        (("cat", "--data", "small", "--report", "gone/x.md"), "there is no directory gone"),
        (("cat", "--data", "nothing"), "nothing"),
        (("cat", "--data", "small", "--split", "test"), "--split names another"),
    ],
)
def test_what_cannot_be_measured_is_one_message(
    home: Home, arguments: tuple[str, ...], complaint: str
) -> None:
    """Exit code 1, and what to do instead."""
    done = run(home, *arguments, *QUICK)

    assert done.exit_code == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_adapters_of_two_bases_cannot_be_compared(home: Home, tmp_path: Path) -> None:
    """It says whose base is which."""
    path = tiny_base(home.bases / "second", seed=5)
    second = read_base(path, "second")
    registry = Registry(home.registry)
    registry.register(random_adapter(tmp_path / "a", path), "stranger", second)
    try:
        done = run(home, "cat", "stranger", "--data", "small", *QUICK)
    finally:
        registry.remove("stranger")

    assert done.exit_code == 1
    assert "'stranger' was trained on 'second'" in done.stderr
