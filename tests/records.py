"""Records of runs that no training made: for tests of what reads and lists them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from training.runs import EventLog, Run, RunStatus, RunStore

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


def measure(run: Run, steps: int, first: int = 1) -> None:
    """Train events with a falling loss, and the start before them where ``first`` is 1."""
    log = EventLog(run.events_path, clock=lambda: STARTED)
    if first == 1:
        log.append("status", 0, state="running", message="started")
    for step in range(first, first + steps):
        log.append("train", step, loss=4.0 - step / 100, tokens_per_s=123.4, gradient_norm=0.5)
    log.close()
