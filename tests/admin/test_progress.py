"""Progress: lines where stderr is a file, a bar where it is a terminal, nothing on stdout."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from admin.job_progress import PROGRESS, progress_in
from admin.output import Output
from admin.progress import TrainingProgress, progress_bar, stages_bar
from training.runs import Event
from training.stages import OnStage, Stages

RUN: Any = SimpleNamespace(id="bot-1")
PLAN: Any = SimpleNamespace(total_steps=300, train=[[]] * 20)
EVENTS = [
    Event(seq=2, time=0.0, step=10, kind="train", loss=3.14159, tokens_per_s=1234.5),
    Event(
        seq=3,
        time=0.0,
        step=10,
        kind="evaluation",
        validation_nll=2.5,
        validation_nll_per_character=1.25,
    ),
    Event(seq=4, time=0.0, step=10, kind="checkpoint", path="checkpoints/step-10"),
    Event(seq=5, time=0.0, step=10, kind="warning", message="A warning."),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal of 120 columns (called in the test: pytest swaps stderr before it)."""
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    return screen


def test_off_a_terminal_each_quarter_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Not one for each step: a log of a thousand lines is no progress."""
    with progress_bar(Output(), "pocket") as advance:
        for done in range(1001):
            advance(done, 1000, "loss 2.0" if done else "")

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "pocket: 0/1000\n"
        "pocket: 250/1000 loss 2.0\n"
        "pocket: 500/1000 loss 2.0\n"
        "pocket: 750/1000 loss 2.0\n"
        "pocket: 1000/1000 loss 2.0\n"
    )


def test_an_unknown_total_is_no_division_by_zero(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, then silence."""
    with progress_bar(Output(), "x") as advance:
        advance(0, 0, "")
        advance(5, 0, "")

    assert capsys.readouterr().err == "x: 0/0\n"


def stages(tell: OnStage) -> None:
    """One of two stages half done, then the other to its end."""
    both = Stages([("likelihood", "cat"), ("replies", "cat")], tell)
    both.begin()(2, 4)
    advance = both.begin()
    for done in (1, 2):
        advance(done, 2)


def test_each_stage_is_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Named; also what has not been counted yet."""
    with stages_bar(Output()) as tell:
        stages(tell)

    assert capsys.readouterr().err == "likelihood: 2/4 cat\nreplies: 1/2 cat\nreplies: 2/2 cat\n"


def test_stages_on_a_terminal_are_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the share of all, and what is done now."""
    terminal = on_a_terminal(monkeypatch)
    with stages_bar(Output()) as tell:
        stages(tell)

    for part in ("replies", "100/100", "2/2 cat"):
        assert part in terminal.getvalue()


def test_a_job_tells_how_far_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What begins and what ends at once, the rest now and then; outside of a job nobody is told."""
    with progress_in(tmp_path), progress_bar(Output(), "encoding") as advance:
        seen = []
        for done in (0, 1, 2, 3, 4):
            advance(done, 4, "dialogues")
            seen.append(json.loads((tmp_path / PROGRESS).read_bytes())["done"])
    (tmp_path / PROGRESS).unlink()
    with progress_bar(Output(), "encoding") as advance:
        advance(4, 4, "dialogues")

    assert (seen[0], seen[-1]) == (0, 4)
    assert set(seen[1:-1]) <= {0, 1, 2, 3}
    assert list(tmp_path.iterdir()) == []
    assert "encoding: 4/4 dialogues" in capsys.readouterr().err


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """With label, count and note."""
    terminal = on_a_terminal(monkeypatch)
    with progress_bar(Output(), "pocket") as advance:
        advance(30, 40, "loss 2.0")

    for part in ("pocket", "30/40", "loss 2.0"):
        assert part in terminal.getvalue()


def test_a_training_off_a_terminal_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Its beginning and what is measured; checkpoints are nobody's news."""
    with TrainingProgress(Output(), "bot") as progress:
        progress.began(RUN, PLAN, 0)
        for event in EVENTS:
            progress.event(event)
        progress.note("A sentence.")

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "Run bot-1: 300 steps over 20 dialogues.\n"
        "step 10/300  loss 3.142  1234 tokens/s\n"
        "step 10/300  validation loss 2.5000 per token, 1.2500 per character\n"
        "A warning.\n"
        "A sentence.\n"
    )


def test_a_resumed_training_says_from_where(capsys: pytest.CaptureFixture[str]) -> None:
    """The step of the checkpoint."""
    with TrainingProgress(Output(), "bot") as progress:
        progress.began(RUN, PLAN, 150)

    assert capsys.readouterr().err == (
        "Run bot-1: 300 steps over 20 dialogues, resumed at step 150.\n"
    )


def test_a_training_on_a_terminal_is_a_bar_between_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss moves with the bar; validation and sentences stay as lines of their own."""
    terminal = on_a_terminal(monkeypatch)
    with TrainingProgress(Output(), "bot") as progress:
        progress.began(RUN, PLAN, 0)
        for event in EVENTS:
            progress.event(event)
        progress.note("A sentence.")

    shown = terminal.getvalue()
    assert "step 10/300  validation loss 2.5000 per token, 1.2500 per character" in shown
    assert "A sentence." in shown
    assert "10/300" in shown
    assert "loss 3.142  1234 tokens/s" in shown
    assert "step 10/300  loss" not in shown
