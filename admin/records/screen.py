"""The live view of a run on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from admin.records.live import LiveRun, duration, measured, sparkline

BAR_WIDTH = 40
COLOURS = {
    "running": "cyan",
    "completed": "green",
    "stopped": "yellow",
    "failed": "red",
    "interrupted": "red",
}


def screen(live: LiveRun) -> RenderableType:
    """One picture of the run as it stands."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    for name, value in _facts(live):
        facts.add_row(name, Text(value))
    warnings = [Text(warning, style="yellow") for warning in live.warnings]
    return Group(_head(live), _bar(live), facts, *warnings)


def _head(live: LiveRun) -> Text:
    state = live.status.state
    return Text.assemble((live.status.id, "bold"), "  ", (state, COLOURS[state]))


def _bar(live: LiveRun) -> Table:
    total = live.status.total_steps
    row = Table.grid(padding=(0, 2))
    row.add_row(
        ProgressBar(total=total, completed=live.step, width=BAR_WIDTH),
        f"{live.step:,}/{total:,}",
        f"{live.step / total:.0%}",
        _remaining(live),
    )
    return row


def _remaining(live: LiveRun) -> str:
    if not live.status.is_active:
        return ""
    left_s = live.remaining_s
    return "" if left_s is None else f"{duration(left_s)} left"


def _facts(live: LiveRun) -> Iterator[tuple[str, str]]:
    if (train := live.train) is not None:
        yield "loss", f"{measured(train.loss, '.4f')}  {sparkline(live.loss)}"
    if (evaluation := live.evaluation) is not None:
        best = live.status.best_step
        told = "" if best is None else f", best at step {best:,}"
        loss = measured(evaluation.validation_nll, ".4f")
        yield "validation loss", f"{loss} at step {evaluation.step:,}{told}"
    if train is not None:
        yield "tokens/s", measured(train.tokens_per_s, ",.0f")
        yield "dialogues/s", measured(train.dialogues_per_s, ",.1f")
        yield "epoch", measured(train.epoch, ".2f")
        yield "learning rate", measured(train.learning_rate, ".3g")
        yield "gradient norm", measured(train.gradient_norm, ".3f")
    if live.checkpoint is not None:
        yield "checkpoint", f"step {live.checkpoint.step:,}"
    if live.status.error:
        yield "error", live.status.error
