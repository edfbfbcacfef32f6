"""Runs side by side: in what they were made differently, and what came of it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import msgspec

from admin.records.errors import RecordError
from training.runs import Event, Run


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Values by what they are of, in the order of ``runs``; ``None`` where a run has none.

    ``made``: what differs in recipe, inputs, versions and hardware. ``came_of_it``: state, steps,
    losses in nats per token, speed, and seconds of training.
    """

    runs: list[str]
    made: dict[str, list[Any]]
    came_of_it: dict[str, list[Any]]


def compare(runs: Sequence[Run]) -> Comparison:
    """The ``runs`` side by side.

    Raises:
        RunNotFound: a status cannot be read.
        RecordError: a recipe or the environment of a run cannot be read.
    """
    made = [_made(run) for run in runs]
    names = list(dict.fromkeys(name for one in made for name in one))
    columns = {name: [one.get(name) for one in made] for name in names}
    results = [_results(run) for run in runs]
    return Comparison(
        runs=[run.id for run in runs],
        made={name: values for name, values in columns.items() if _differ(values)},
        came_of_it={name: [one[name] for one in results] for name in results[0]},
    )


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)


def _made(run: Run) -> dict[str, Any]:
    """Everything that went into a run, by dotted names."""
    try:
        recipe = tomllib.loads(run.recipe_path.read_text(encoding="utf-8"))
        environment = msgspec.json.decode(run.environment_path.read_bytes(), type=dict[str, Any])
    except (OSError, ValueError) as error:
        raise RecordError(f"The record of {run.id} cannot be read: {error}") from error
    parts = ("inputs", "python", "versions", "hardware")
    return _flat(recipe) | _flat({name: environment.get(name) for name in parts})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _results(run: Run) -> dict[str, Any]:
    status, events = run.status(), run.events()
    trained = [event for event in events if event.kind == "train"]
    speeds = [event.tokens_per_s for event in trained if event.tokens_per_s is not None]
    return {
        "state": status.state,
        "adapter": status.adapter,
        "steps": status.step,
        "last loss": trained[-1].loss if trained else None,
        "best validation loss": status.validation_nll,
        "at step": status.best_step,
        "tokens/s (median)": median(speeds) if speeds else None,
        "seconds": worked_s(events),
    }


def worked_s(events: Iterable[Event]) -> float:
    """Seconds between events, without the pauses before a run was resumed."""
    total, before = 0.0, None
    for event in events:
        if before is not None and event.state != "running":
            total += event.time - before
        before = event.time
    return total
