"""Where a run stands: ``status.json``."""

from __future__ import annotations

import msgspec

from training.runs.event import RunState


class RunStatus(msgspec.Struct, frozen=True, tag_field="format", tag="lccc-run/1"):
    """Where a run stands. Times are Unix seconds; ``validation_nll`` is nats per token.

    ``pid`` is the process that trains, or did. A run that claims to be running although nobody
    holds its directory reads as ``interrupted``. ``sweep`` is the sweep that it is a trial of.
    """

    id: str
    state: RunState
    adapter: str
    base: str
    dataset: str
    total_steps: int
    started: float
    updated: float
    pid: int
    step: int = 0
    best_step: int | None = None
    validation_nll: float | None = None
    error: str | None = None
    digest: str | None = None
    base_path: str | None = None
    sweep: str | None = None

    @property
    def is_active(self) -> bool:
        return self.state == "running"
