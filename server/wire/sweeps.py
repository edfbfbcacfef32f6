"""``/admin/sweeps``: trainings that differ in a few recipe fields, as the console sees them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from server.wire.parameters import Inbound

TrialState = Literal["pending", "running", "completed", "stopped", "failed", "interrupted"]


class SweepRequest(Inbound, frozen=True, kw_only=True):
    """A sweep, as the file that `lccc-admin sweep` takes says it.

    A recipe in it is a bundled one or stands in the file itself, and the base is one of those of
    `GET /admin/recipes`: it names no other files.
    """

    definition: Annotated[str, Meta(min_length=1, max_length=1 << 18, description="TOML.")]


class SweepCard(Struct, frozen=True, kw_only=True):
    """Where a sweep stands. ``fields`` are those that vary, in the order of its file.

    ``trials`` counts all, ``completed`` and ``failed`` those that have ended. ``best`` is the id of
    the trial with the lowest ``validation_nll`` (nats per token), ``registered`` the adapter that
    was made of it. ``updated`` is Unix seconds. ``can_go_on``: what it needs for that is kept.
    """

    name: str
    dataset: str
    base: str
    search: Literal["grid", "random"]
    fields: list[str]
    is_running: bool
    is_asked_to_stop: bool
    can_go_on: bool
    trials: int
    completed: int
    failed: int
    best: str | None
    validation_nll: float | None
    registered: str | None
    updated: float


class TrialCard(Struct, frozen=True, kw_only=True):
    """A trial: ``values`` by field, and its run. ``seconds`` are of training.

    ``validation_nll`` is the lowest so far, of step ``best_step``. ``has_run``: the run's record is
    there still.
    """

    id: str
    name: str
    state: TrialState
    values: dict[str, Any]
    run: str | None
    has_run: bool
    step: int
    total_steps: int | None
    validation_nll: float | None
    best_step: int | None
    seconds: float | None
    error: str | None


class SweepDetail(Struct, frozen=True, kw_only=True):
    """A sweep with its trials, the completed ones first, by their loss.

    ``duplicates`` of a trial are not among them.
    """

    sweep: SweepCard
    trials: list[TrialCard]
    duplicates: int


class SweepList(Struct, frozen=True, kw_only=True):
    """Every sweep that has begun, the newest first, and why others cannot be read."""

    data: list[SweepCard]
    broken: dict[str, str]
    object: Literal["list"] = "list"


class PlannedTrial(Struct, frozen=True, kw_only=True):
    """A trial before the sweep goes on. What is estimated is there where it is still to be run.

    ``seconds`` are those of all its steps, where that is known; ``disk`` is in bytes, at most.
    """

    name: str
    state: TrialState
    values: dict[str, Any]
    steps: int | None
    seconds: float | None
    disk: int | None


class SweepPlan(Struct, frozen=True, kw_only=True):
    """What a sweep would do; ``steps``, ``seconds`` and ``disk`` are of all trials to be run."""

    name: str
    dataset: str
    base: str
    search: Literal["grid", "random"]
    duplicates: int
    trials: list[PlannedTrial]
    to_run: int
    steps: int
    seconds: float | None
    disk: int
