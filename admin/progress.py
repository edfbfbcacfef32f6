"""Progress on a terminal: bars while it is one, plain lines where it is not. Always on stderr.

A job (``admin.job``) tells the console besides.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

from admin.job_progress import tell
from admin.output import Output

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from training.planning.plan import Plan
    from training.runs import Event, Run
    from training.stages import OnNotedProgress, OnProgress, OnStage, Stage

# Fewer become tokens in the blink of an eye.
DIALOGUES_WORTH_A_BAR = 10_000


@contextmanager
def progress_bar(output: Output, label: str) -> Iterator[OnNotedProgress]:
    """A callback ``(done, total, note)`` that draws a bar; off a terminal, a line a quarter."""
    if not sys.stderr.isatty():
        yield _told(label, _lines(output, label))
        return
    with _bar() as bar:
        task = bar.add_task(label, total=None, note="")
        yield lambda done, total, note: bar.update(task, completed=done, total=total, note=note)


@contextmanager
def passing_bar(output: Output, label: str, unit: str = "") -> Iterator[OnProgress]:
    """A callback ``(done, total)`` that draws a bar which does not stay.

    Off a terminal there are lines as of :func:`progress_bar` where there is a ``unit``, else
    nothing.
    """
    if sys.stderr.isatty():
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn(label), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with _bar(*columns, transient=True) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    elif unit:
        with progress_bar(output, label) as lines:
            yield lambda done, total: lines(done, total, unit)
    else:
        yield lambda _done, _total: None


@contextmanager
def stages_bar(output: Output) -> Iterator[OnStage]:
    """A callback that draws one bar for all stages; off a terminal, lines as for a bar each."""
    if not sys.stderr.isatty():
        yield _StageLines(output)
        return
    with _bar() as bar:
        task = bar.add_task("", total=None, note="")

        def draw(stage: Stage) -> None:
            note = f"{stage.done}/{stage.total} {stage.subject}" if stage.total else stage.subject
            percent = round(100 * stage.share)
            bar.update(task, description=stage.stage, completed=percent, total=100, note=note)

        yield draw


@contextmanager
def encoding_progress(output: Output) -> Iterator[OnProgress]:
    """A bar for dialogues that become tokens, once there are many of them to be made."""
    with ExitStack() as stack:
        advance: OnNotedProgress | None = None

        def on_progress(done: int, total: int) -> None:
            nonlocal advance
            if total >= DIALOGUES_WORTH_A_BAR:
                advance = advance or stack.enter_context(progress_bar(output, "encoding"))
                advance(done, total, "dialogues")

        yield on_progress


def _told(label: str, then: OnNotedProgress) -> OnNotedProgress:
    """``then``, after a job's progress is told."""
    from training.stages import Stage

    def advance(done: int, total: int, note: str) -> None:
        tell(Stage(label, note, done, total, done / total if total else 0.0))
        then(done, total, note)

    return advance


class _StageLines:
    """Each stage as lines of its own."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._of: tuple[str, str] | None = None
        self._advance: OnNotedProgress = lambda *_: None

    def __call__(self, stage: Stage) -> None:
        tell(stage)
        if self._of != (stage.stage, stage.subject):
            self._of = (stage.stage, stage.subject)
            self._advance = _lines(self._output, stage.stage)
        if stage.total:
            self._advance(stage.done, stage.total, stage.subject)


def _lines(output: Output, label: str) -> OnNotedProgress:
    said = -1

    def advance(done: int, total: int, note: str) -> None:
        nonlocal said
        quarter = 4 * done // total if total else 0
        if quarter > said:
            said = quarter
            output.say(f"{label}: {done}/{total} {note}".rstrip())

    return advance


def _bar(*columns: ProgressColumn, transient: bool = False) -> Progress:
    """With ``columns``, or with description, count and note."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    usual = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*(columns or usual), console=Console(file=sys.stderr), transient=transient)


class TrainingProgress:
    """Follows one training: implements ``training.execution.journal.Progress``."""

    def __init__(self, output: Output, label: str) -> None:
        self._output = output
        self._label = label
        self._total = 0
        self._bar: Any = None
        self._task: Any = None
        self._note = ""

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(f"{self._label}: loading", total=None, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def began(self, run: Run, plan: Plan, step: int) -> None:
        self._total = plan.total_steps
        resumed = f", resumed at step {step}" if step else ""
        self.note(f"Run {run.id}: {self._total} steps over {len(plan.train)} dialogues{resumed}.")
        if self._bar is not None:
            self._bar.update(self._task, description=self._label, total=self._total, completed=step)

    def event(self, event: Event) -> None:
        if event.kind == "warning":
            self.note(event.message or "")
        line = _sentence(event)
        if line is None:
            return
        if self._bar is not None:
            self._note = line if event.kind == "train" else self._note
            self._bar.update(self._task, completed=event.step, note=self._note)
        if event.kind != "train" or self._bar is None:
            self.note(f"step {event.step}/{self._total}  {line}")

    def note(self, message: str) -> None:
        if self._bar is not None:
            self._bar.console.print(message, highlight=False)
        else:
            self._output.say(message)


def _sentence(event: Event) -> str | None:
    if event.kind == "train":
        return f"loss {event.loss:.3f}  {event.tokens_per_s:.0f} tokens/s"
    if event.kind == "evaluation":
        return (
            f"validation loss {event.validation_nll:.4f} per token, "
            f"{event.validation_nll_per_character:.4f} per character"
        )
    if event.kind == "samples":
        from admin.records.watch import samples_sentence

        return samples_sentence(event)
    return None
