"""Runs as a person reads them in a terminal: tables of what they are and what they measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from admin.output import Output

if TYPE_CHECKING:
    from admin.records.comparison import Comparison
    from training.runs import Event, RunStatus


def show_list(output: Output, found: Sequence[RunStatus]) -> None:
    """A row for each run."""
    rows = [
        (
            status.id,
            status.state,
            f"{status.step}/{status.total_steps}",
            _number(status.validation_nll, 4),
            status.base,
            status.dataset,
        )
        for status in found
    ]
    columns = ("run", "state", "step", "validation loss", "base", "dataset")
    output.table(columns, rows, whole=("run",))


def show_status(output: Output, status: RunStatus) -> None:
    """What a person wants of a status; the process matters only while it runs."""
    fields = msgspec.to_builtins(status) | {
        "started": _local(status.started),
        "updated": _local(status.updated),
        "pid": status.pid if status.is_active else None,
    }
    facts = [(name, value) for name, value in fields.items() if value is not None]
    output.table(("run", ""), facts, whole=("run",))


def show_measured(output: Output, events: Sequence[Event], *, most: int | None) -> None:
    """A row for each of the last ``most`` of ``events``; ``None``: of all."""
    if not events:
        output.say("Nothing has been measured yet.")
        return
    shown = events if most is None else events[-most:]
    rows = [
        (
            event.step,
            _number(event.loss, 4),
            _number(event.validation_nll, 4),
            _number(event.gradient_norm, 3),
            _number(event.tokens_per_s, 0),
        )
        for event in shown
    ]
    output.data("")
    output.table(("step", "loss", "validation loss", "gradient norm", "tokens/s"), rows)
    if earlier := len(events) - len(shown):
        output.say(f"{earlier} earlier ones are left out; --all shows them.")


def show_samples(output: Output, events: Sequence[Event], *, most: int) -> None:
    """The model's newest replies, and how their figures went."""
    from training.scores.metrics import METRICS

    sampled = [event for event in events if event.scores is not None]
    if not sampled:
        return
    names = [name for name in METRICS if name in (sampled[-1].scores or {})]
    columns = ("replies at step", *(METRICS[name].title for name in names))
    rows = [
        (event.step, *(_number((event.scores or {}).get(name), 1) for name in names))
        for event in sampled[-most:]
    ]
    output.data("")
    output.table(columns, rows)
    replies = [(one.text, one.reply, one.reference) for one in sampled[-1].replies or ()]
    output.data("")
    output.table(("the user", f"at step {sampled[-1].step}", "the data"), replies)


def show_comparison(output: Output, found: Comparison) -> None:
    """What came of each run, then in what they were made differently."""
    rows = [
        (name, *map(_cell, values))
        for part in (found.came_of_it, found.made)
        for name, values in part.items()
    ]
    output.table(("", *found.runs), rows)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _local(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))
