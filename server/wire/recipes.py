"""``/admin/recipes``: what can be set in a training, and what a training would take."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class RecipeField(Struct, frozen=True, kw_only=True):
    """One field. ``value`` is this recipe's; bounds and choices are those of its JSON Schema."""

    name: str
    section: str
    kind: Literal["text", "integer", "number", "boolean", "list", "table"]
    value: Any
    choices: list[str] | None = None
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None


class RecipeCard(Struct, frozen=True, kw_only=True):
    """A bundled recipe, resolved."""

    name: str
    is_default: bool
    fields: list[RecipeField]


class RecipeList(Struct, frozen=True, kw_only=True):
    """The bundled recipes, and the bases on this machine; the first of these is the served one."""

    data: list[RecipeCard]
    bases: list[str]
    object: Literal["list"] = "list"


class Pace(Struct, frozen=True, kw_only=True):
    """How long it will take, if it goes as fast as the run ``run`` on this machine did."""

    seconds: float
    tokens_per_s: float
    run: str


class Recomputation(Struct, frozen=True, kw_only=True):
    """Gradient checkpointing: the first ``layers`` of all ``of`` compute their activations again.

    ``setting`` is the recipe's; with ``auto`` it is as few as fit into the ``usable`` bytes of the
    memory that is free now. A step takes ``times`` as much arithmetic so, and its largest forward
    would take ``needed_with`` bytes if all did, ``needed_without`` if none did. The result is the
    same.
    """

    setting: bool | Literal["auto"]
    layers: int
    of: int
    times: float
    needed_with: int
    needed_without: int
    usable: int


class TrainingPlan(Struct, frozen=True, kw_only=True):
    """What a training would do, as `lccc-admin train --dry-run` plans it. Sizes are bytes.

    ``changed`` are fields that differ from the default recipe. ``cut`` counts dialogues that are
    longer than ``prompt.max_length``. ``memory`` is that of the largest forward. ``pace`` is null
    where no run on this base has been timed.
    """

    recipe: dict[str, dict[str, Any]]
    changed: list[str]
    base: str
    dataset: str
    dialogues: int
    replies: int
    tokens_per_epoch: int
    target_tokens_per_epoch: int
    cut: int
    steps: int
    steps_per_epoch: int
    dialogues_per_step: int
    trainable_parameters: int
    memory: dict[str, int]
    memory_total: int
    recomputation: Recomputation
    disk: int
    pace: Pace | None
    is_served: bool
