"""How a sweep is shown: a table for a person, JSON for a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from admin.output import Output
from training.sweeps.record import Registered, SweepRecord
from training.sweeps.standing import Standing, by_loss
from training.sweeps.trials import shown

if TYPE_CHECKING:
    from training.sweeps.planning import Estimate

ENDED = ("completed", "failed")


class SweepReport(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep with its trials, the completed ones first, by their loss; ``best`` is a trial's id.

    ``duplicates`` of a trial are not among them. ``is_running``: whether a process conducts it.
    """

    name: str
    dataset: str
    base: str
    search: str
    duplicates: int
    is_running: bool
    best: str | None
    registered: Registered | None
    trials: list[Standing]


class PlannedTrial(msgspec.Struct, frozen=True, kw_only=True):
    """A trial before the sweep goes on. What is estimated is there where it is still to be run.

    ``seconds`` are those of all its steps, where that is known; ``disk`` is in bytes, at most.
    """

    name: str
    state: str
    values: dict[str, Any]
    steps: int | None = None
    seconds: float | None = None
    disk: int | None = None


class SweepPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep would do; ``steps``, ``seconds`` and ``disk`` are of all trials to be run."""

    name: str
    dataset: str
    base: str
    search: str
    duplicates: int
    trials: list[PlannedTrial]
    to_run: int
    steps: int
    seconds: float | None
    disk: int

    @classmethod
    def of(
        cls, record: SweepRecord, found: Sequence[Standing], estimated: dict[str, Estimate]
    ) -> SweepPlan:
        """``estimated`` has the trials to be run, by their ids."""
        known = [one.seconds for one in estimated.values() if one.seconds is not None]
        return cls(
            name=record.name,
            dataset=record.dataset,
            base=record.base.name,
            search=record.search,
            duplicates=record.duplicates,
            trials=[_planned(one, estimated.get(one.id)) for one in found],
            to_run=len(estimated),
            steps=sum(one.steps for one in estimated.values()),
            seconds=sum(known) if len(known) == len(estimated) else None,
            disk=sum(one.disk for one in estimated.values()),
        )

    def sentence(self) -> str:
        """What is to be done, for a person."""
        parts = [f"trials: {len(self.trials)}"]
        if self.duplicates:
            parts.append(f"the same as one of them: {self.duplicates}")
        parts.append(f"to run: {self.to_run}")
        if self.to_run:
            time = f"about {clock(self.seconds)}" if self.seconds is not None else "time unknown"
            disk = f"{self.disk / 2**20:,.0f} MiB on the disk at most"
            parts.append(f"steps: {self.steps:,}, {time}, {disk}")
        return f"Sweep '{self.name}': {'; '.join(parts)}."


def _planned(one: Standing, estimate: Estimate | None) -> PlannedTrial:
    values = msgspec.structs.asdict(estimate) if estimate else {}
    return PlannedTrial(name=one.name, state=one.state, values=one.values, **values)


def report_of(record: SweepRecord, found: list[Standing], *, is_running: bool) -> SweepReport:
    """The report of ``record``, whose trials stand as ``found``."""
    best = record.best()
    return SweepReport(
        name=record.name,
        dataset=record.dataset,
        base=record.base.name,
        search=record.search,
        duplicates=record.duplicates,
        is_running=is_running,
        best=best.id if best else None,
        registered=record.registered,
        trials=by_loss(found),
    )


def print_report(output: Output, report: SweepReport) -> None:
    """The trials as a table, by their loss, and why those that failed did."""
    fields = _fields(report.trials)
    rows = [
        (
            one.id,
            *_cells(one.values, fields),
            _state(one),
            "" if one.validation_nll is None else f"{one.validation_nll:.4f}",
            "" if one.best_step is None else one.best_step,
            "" if one.seconds is None else clock(one.seconds),
            one.run or "",
        )
        for one in report.trials
    ]
    columns = ("trial", *fields, "state", "validation loss", "at step", "time", "run")
    output.table(columns, rows, whole=("run",))
    for one in report.trials:
        if one.error:
            output.warn(f"{one.id} {one.state}: {one.error}")


def print_plan(output: Output, plan: SweepPlan) -> None:
    """The trials as a table, in their order, with steps and time."""
    fields = _fields(plan.trials)
    rows = [
        (
            one.name,
            *_cells(one.values, fields),
            one.state,
            "" if one.steps is None else one.steps,
            "" if one.seconds is None else clock(one.seconds),
        )
        for one in plan.trials
    ]
    output.table(("trial", *fields, "state", "steps", "time"), rows)


def clock(seconds: float) -> str:
    """``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _fields(trials: Sequence[Standing] | Sequence[PlannedTrial]) -> list[str]:
    return list(dict.fromkeys(name for one in trials for name in one.values))


def _cells(values: dict[str, Any], fields: Sequence[str]) -> list[str]:
    return [shown(values[name]) if name in values else "" for name in fields]


def _state(one: Standing) -> str:
    is_under_way = one.total_steps is not None and one.state not in ENDED
    return f"{one.state} {one.step}/{one.total_steps}" if is_under_way else one.state
