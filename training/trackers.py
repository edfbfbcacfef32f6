"""Trackers of experiments: what is measured goes to those that are asked for, by their own names.

The run's own record is complete without them. One that fails in the middle is named in a warning
and left out from then on; no training ends because of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Protocol, Self

import msgspec

from training.errors import TrackerFailed, TrackerMissing
from training.recipe import Recipe
from training.runs import Event, Run, RunState

PROJECT = "lccc-chat"
_LONGEST_ID = 128  # of Weights & Biases
_GROUPS = {"train": "train", "evaluation": "validation"}
_SHOWN = {
    "epoch": "epoch",
    "loss": "loss",
    "learning_rate": "learning_rate",
    "gradient_norm": "gradient_norm",
    "tokens_per_s": "tokens_per_s",
    "dialogues_per_s": "dialogues_per_s",
    "validation_nll": "loss",
    "validation_nll_per_character": "loss_per_character",
}


class Tracker(Protocol):
    """One tracker that has been opened for a run."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """What was measured at ``step``, by names such as ``train/loss``."""

    def close(self, state: RunState, /) -> None:
        """The run has ended."""


def values_of(event: Event) -> dict[str, float]:
    """What a tracker is told of an event: ``train/…``, ``validation/…`` (nats), ``samples/…``."""
    group = _GROUPS.get(event.kind)
    if event.scores is not None:
        return {f"samples/{name}": value for name, value in event.scores.items()}
    return {
        f"{group}/{name}": value
        for field, name in _SHOWN.items()
        if (value := getattr(event, field)) is not None
    }


class TensorBoard:
    """Event files in the run's directory: ``tensorboard --logdir RUNS``."""

    def __init__(self, run: Run, recipe: Recipe, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = str(run.directory / "tensorboard")
        self._writer = SummaryWriter(place, purge_step=step + 1 if step else None)
        self._writer.add_text("recipe", f"```toml\n{recipe.toml()}\n```", step)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, _state: RunState) -> None:
        self._writer.close()


class WandB:
    """Weights & Biases; a resumed run goes on under the same id."""

    def __init__(self, run: Run, recipe: Recipe, _step: int) -> None:
        import wandb

        self._run = wandb.init(
            project=PROJECT,
            id=run.id[-_LONGEST_ID:],
            name=run.id,
            config=msgspec.to_builtins(recipe),
            dir=str(run.directory),
            resume="allow",
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, state: RunState) -> None:
        self._run.finish(exit_code=0 if state in ("completed", "stopped") else 1)


class MLflow:
    """MLflow; a resumed run is found again by a tag with its id."""

    def __init__(self, run: Run, recipe: Recipe, _step: int) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(PROJECT)
        wanted = f"tags.`lccc.run` = '{run.id}'"
        begun = mlflow.search_runs(filter_string=wanted, max_results=1, output_format="list")
        if begun:
            mlflow.start_run(run_id=begun[0].info.run_id)
        else:
            mlflow.start_run(run_name=run.id, tags={"lccc.run": run.id})
            mlflow.log_params(_flat(msgspec.to_builtins(recipe)))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self, state: RunState) -> None:
        ended = {"completed": "FINISHED", "failed": "FAILED"}.get(state, "KILLED")
        self._mlflow.end_run(status=ended)


class Trackio:
    """Trackio; a resumed run goes on under the same name."""

    def __init__(self, run: Run, recipe: Recipe, _step: int) -> None:
        import trackio

        self._trackio = trackio
        config = msgspec.to_builtins(recipe)
        trackio.init(project=PROJECT, name=run.id, config=config, resume="allow")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._trackio.log(dict(values), step=step)

    def close(self, _state: RunState) -> None:
        self._trackio.finish()


# By the name of the option and of the package: what opens one for a run that has made some steps.
TRACKERS: dict[str, Callable[[Run, Recipe, int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed, before anything is done.

    Raises:
        TrackerMissing: the message says what to install.
    """
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            raise TrackerMissing(name, str(error)) from error


class Trackers:
    """The trackers that follow a run."""

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)

    @classmethod
    def open(cls, names: Sequence[str], run: Run, recipe: Recipe, step: int) -> Self:
        """All of them, for a run that has made ``step`` steps.

        Raises:
            TrackerFailed: one cannot be started (an account, a network); none is left open.
        """
        opened = cls({})
        for name in names:
            try:
                opened._trackers[name] = TRACKERS[name](run, recipe, step)
            except Exception as error:
                opened.close("failed")
                raise TrackerFailed(name, error) from error
        return opened

    def log(self, event: Event) -> list[str]:
        """Tell them what was measured; a warning for each that failed and is left out from now."""
        values = values_of(event)
        warnings = []
        for name, tracker in list(self._trackers.items()) if values else ():
            try:
                tracker.log(values, event.step)
            except Exception as error:  # noqa: BLE001 - whatever a tracker has, the training goes on
                del self._trackers[name]
                warnings.append(
                    f"{name} failed and gets nothing more of this run: {error}. The run's own "
                    "record is complete."
                )
        return warnings

    def close(self, state: RunState) -> None:
        """Tell them how the run ended."""
        for tracker in self._trackers.values():
            with suppress(Exception):  # the run's own record has it
                tracker.close(state)
        self._trackers = {}


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, fields in recipe.items()
        for name, value in fields.items()
    }
