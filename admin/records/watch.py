"""Following a run to its end: a picture on a terminal, lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

import msgspec

from admin.output import Output
from admin.records.live import LiveRun, follow, measured
from training.runs import Event, Run, RunStatus

POLL_S = 0.5


def watch(run: Run, output: Output, *, as_json: bool) -> RunStatus:
    """Show ``run`` until it ends, and how it ended."""
    if as_json or not sys.stdout.isatty():
        return _in_lines(run, output, as_json=as_json)
    return _on_terminal(run)


def _pause() -> None:
    time.sleep(POLL_S)


def _in_lines(run: Run, output: Output, *, as_json: bool) -> RunStatus:
    status = run.status()
    for now, events in follow(run, _pause):
        status = now
        for event in events:
            output.data(msgspec.json.encode(event).decode() if as_json else sentence(event))
    return status


def _on_terminal(run: Run) -> RunStatus:
    from rich.console import Console
    from rich.live import Live

    from admin.records.screen import screen

    live = LiveRun(run.status())
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    with Live(console=console, auto_refresh=False) as picture:
        for status, events in follow(run, _pause):
            live.status = status
            live.add(events)
            picture.update(screen(live), refresh=True)
    return live.status


def sentence(event: Event) -> str:
    """An event as a line for a person."""
    return f"step {event.step}  {'  '.join(_parts(event))}"


def _parts(event: Event) -> Iterable[str]:
    if event.kind == "status":
        yield f"{event.state}: {event.message}" if event.message else str(event.state)
    elif event.kind == "train":
        yield f"loss {measured(event.loss, '.4f')}"
        yield f"learning rate {measured(event.learning_rate, '.3g')}"
        yield f"{measured(event.tokens_per_s, '.0f')} tokens/s"
    elif event.kind == "evaluation":
        yield f"validation loss {measured(event.validation_nll, '.4f')} per token"
    elif event.kind == "samples":
        yield samples_sentence(event)
    elif event.kind == "warning":
        yield f"warning: {event.message}"
    elif event.kind == "recomputation":
        yield event.message or ""
    else:
        yield f"wrote {event.path}"


def samples_sentence(event: Event) -> str:
    """The figures of replies that a person asks for first, and the first reply."""
    scores, replies = event.scores or {}, event.replies or ()
    shown = {
        "BLEU-4 of characters": "bleu_4_characters",
        "distinct-2": "distinct_2_characters",
        "repetition": "repetition_4_characters",
    }
    parts = [f"{title} {scores[name]:.1f} %" for title, name in shown.items() if name in scores]
    said = [f"{replies[0].text} → {replies[0].reply}"] if replies else []
    return "  ".join([f"{len(replies)} replies", *parts, *said])
