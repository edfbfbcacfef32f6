"""Records of runs and sweeps that no training made: for tests of what reads and lists them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from adapters.home import Home
from adapters.manifest import BaseRef
from training.runs import EventLog, Run, RunStatus, RunStore
from training.sweeps.definition import parse_sweep
from training.sweeps.record import Outcome, SweepRecord
from training.sweeps.store import SweepStore
from training.sweeps.trials import expand

STARTED = 1767225600.0


def status(**changes: Any) -> RunStatus:
    """A run that was stopped half-way, but for ``changes``."""
    stopped = RunStatus(
        id="",
        state="stopped",
        adapter="bot",
        base="Qwen/Qwen3-0.6B",
        dataset="demo-scholar",
        total_steps=300,
        started=STARTED,
        updated=STARTED + 60,
        pid=os.getpid(),
        step=150,
        validation_nll=3.25678,
    )
    return msgspec.structs.replace(stopped, **changes)


def make_run(
    root: Path, recipe: str = "[lora]\n", environment: dict[str, Any] | None = None, **changes: Any
) -> Run:
    """A run below ``root`` without events."""
    return RunStore(root).create(status(**changes), recipe, environment or {})


def make_sweep(home: Home, name: str = "rank", **changes: Any) -> SweepRecord:
    """A sweep over three ranks whose first trial is completed; its second one's run is running.

    Nobody conducts it. ``changes`` are of its record.
    """
    content = f'name = "{name}"\ndata = "small"\nbase = "pocket"\n[fields]\n"lora.r" = [4, 8, 16]\n'
    definition = parse_sweep(content.encode(), Path("rank.toml"))
    base = BaseRef("pocket", "1" * 64, "2" * 64, "3" * 64)
    record = SweepRecord.of(definition, expand(definition), "4" * 64, base)
    record = msgspec.structs.replace(record, **changes)
    first, second, _ = record.trials
    known: dict[str, Any] = {"sweep": name, "dataset": "small", "base": "pocket"}
    done = make_run(home.runs, adapter=record.adapter(first), state="completed", **known)
    make_run(home.runs, adapter=record.adapter(second), state="running", **known)
    outcome = Outcome("completed", done.id, 300, 300, 2.5, 250, 61.0)
    store = SweepStore(home.sweeps)
    store.make_directory(name)
    record = record.with_outcome(first, outcome)
    store.write(record)
    store.write_recipe(record)
    store.write_definition(definition, "pocket")
    return record


def measure(run: Run, steps: int, first: int = 1) -> None:
    """Train events with a falling loss, and the start before them where ``first`` is 1."""
    log = EventLog(run.events_path, clock=lambda: STARTED)
    if first == 1:
        log.append("status", 0, state="running", message="started")
    for step in range(first, first + steps):
        log.append("train", step, loss=4.0 - step / 100, tokens_per_s=123.4, gradient_norm=0.5)
    log.close()
