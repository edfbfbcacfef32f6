"""``/admin/runs``: trainings as the console sees them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from server.wire.lora import AdapterName
from server.wire.parameters import Inbound

RunState = Literal["running", "completed", "stopped", "failed", "interrupted"]
RecipeName = Annotated[
    str, Meta(min_length=1, max_length=128, description="One of `GET /admin/recipes`.")
]
DatasetName = Annotated[
    str, Meta(min_length=1, max_length=128, description="One of `GET /admin/datasets`.")
]
BaseName = Annotated[
    str, Meta(min_length=1, max_length=256, description="One of the bases of `GET /admin/recipes`.")
]
FieldName = Annotated[str, Meta(min_length=1, max_length=64)]
FieldValue = Annotated[str, Meta(max_length=8192)]
Overrides = Annotated[
    dict[FieldName, FieldValue],
    Meta(
        max_length=64,
        description="Changed fields of the recipe, such as `lora.r`, and their values as `train "
        "--set` takes them.",
    ),
]


class TrainingRequest(Inbound, frozen=True, kw_only=True):
    """What to train on what, and how.

    ``base`` is the served one and ``recipe`` the default one where they are left out.
    """

    dataset: DatasetName
    adapter: AdapterName
    base: BaseName | None = None
    recipe: RecipeName | None = None
    overrides: Overrides = field(default_factory=dict)


class RunCard(Struct, frozen=True, kw_only=True):
    """Where a run stands. Times are Unix seconds; ``validation_nll`` is nats per token.

    ``interrupted`` is a run whose process died; ``digest`` is set where the adapter was registered.
    """

    id: str
    state: RunState
    adapter: str
    base: str
    dataset: str
    step: int
    total_steps: int
    started: float
    updated: float
    best_step: int | None
    validation_nll: float | None
    error: str | None
    digest: str | None
    is_asked_to_stop: bool = False


class RunList(Struct, frozen=True, kw_only=True):
    """Every run, newest first."""

    data: list[RunCard]
    object: Literal["list"] = "list"


class CheckpointCard(Struct, frozen=True, kw_only=True):
    """A checkpoint that is on the disk. ``is_best`` has the lowest validation loss so far."""

    step: int
    written: float
    size_bytes: int
    is_best: bool


class SampleCard(Struct, frozen=True, kw_only=True):
    """What the model said at a step. ``expected`` is what the validation dialogue has there."""

    step: int
    prompt: str
    reply: str
    expected: str


class WarningCard(Struct, frozen=True, kw_only=True):
    """Something that a run's record warns of."""

    step: int
    time: float
    message: str


class RunDetail(Struct, frozen=True, kw_only=True):
    """A run, the recipe that it was made with, and what it has produced.

    ``changed`` are the recipe's fields that differ from the default recipe. ``has_adapter``:
    whether it has written an adapter that can be registered.
    """

    run: RunCard
    recipe: dict[str, dict[str, Any]]
    changed: list[str]
    checkpoints: list[CheckpointCard]
    samples: list[SampleCard]
    warnings: list[WarningCard]
    has_adapter: bool


class Point(Struct, frozen=True, array_like=True):
    """Neighbouring measurements: from and to which step, and the least, greatest and last value."""

    first_step: int
    last_step: int
    low: float
    high: float
    last: float


class RunMetrics(Struct, frozen=True, kw_only=True):
    """Measured quantities over the steps.

    ``seq`` numbers the last event that is counted in: what comes later has higher numbers. With
    ``after``, ``dropped_after`` is the step after which measurements from before no longer count
    because a resumed run made the steps again; null where there is no such step.
    """

    run: str
    seq: int
    dropped_after: int | None
    curves: dict[str, list[Point]]


class LogText(Struct, frozen=True, kw_only=True):
    """A piece of a log in whole lines, and the byte where the next piece begins."""

    text: str
    next: int
    size: int
