"""Where each trial of a sweep stands: what the table shows, and what is still to be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from training.runs import Run
from training.runs.event import RunState
from training.sweeps.record import Outcome, SweepRecord, TrialRecord

TrialState = RunState | Literal["pending"]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A trial as it stands. ``name`` is its adapter's in its run; ``seconds`` are of training.

    ``pending`` has no run yet; ``stopped`` and ``interrupted`` go on from a checkpoint.
    ``validation_nll`` (nats per token) is the lowest so far, of step ``best_step``.
    """

    id: str
    name: str
    state: TrialState
    values: dict[str, Any]
    run: str | None = None
    step: int = 0
    total_steps: int | None = None
    validation_nll: float | None = None
    best_step: int | None = None
    seconds: float | None = None
    error: str | None = None

    @classmethod
    def of(cls, record: SweepRecord, trial: TrialRecord, run: Run | None) -> Standing:
        """By its outcome, else by the record of its ``run``."""
        known: dict[str, Any] = {
            "id": trial.id,
            "name": record.adapter(trial),
            "values": trial.values,
        }
        if trial.outcome is not None:
            return cls(**known, **msgspec.structs.asdict(trial.outcome))
        if run is None:
            return cls(**known, state="pending")
        status = run.status()
        return cls(
            **known,
            state=status.state,
            run=run.id,
            step=status.step,
            total_steps=status.total_steps,
            validation_nll=status.validation_nll,
            best_step=status.best_step,
            error=status.error,
        )


def standings(record: SweepRecord, runs: Mapping[str, Run]) -> list[Standing]:
    """Every trial's, in their order; ``runs`` are those of :func:`store.trial_runs`."""
    return [Standing.of(record, trial, runs.get(trial.id)) for trial in record.trials]


def by_loss(found: list[Standing]) -> list[Standing]:
    """The completed ones by their validation loss, then the others in their order."""
    return sorted(found, key=lambda one: (one.state != "completed", _loss(one)))


def _loss(one: Standing) -> float:
    is_ranked = one.state == "completed" and one.validation_nll is not None
    return one.validation_nll if is_ranked and one.validation_nll is not None else float("inf")


def outcome_of(run: Run, seconds: float) -> Outcome | None:
    """What came of ``run`` where it has come to its end; ``None`` where it can go on.

    A run whose process died can go on; that is a failure only to whoever has seen it die.
    """
    status = run.status()
    if status.state not in ("completed", "failed"):
        return None
    return Outcome(
        state=status.state,
        run=run.id,
        step=status.step,
        total_steps=status.total_steps,
        validation_nll=status.validation_nll,
        best_step=status.best_step,
        seconds=seconds,
        error=status.error,
    )
