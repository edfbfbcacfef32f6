"""The end of a sweep that runs, asked for by another process than the one that conducts it."""

from __future__ import annotations

from contextlib import suppress

from training.errors import RunNotFound, SweepIdle
from training.runs import RunStore
from training.sweeps.lock import is_conducted
from training.sweeps.record import SweepRecord
from training.sweeps.store import SweepStore, trial_runs


def stop(store: SweepStore, runs: RunStore, record: SweepRecord) -> None:
    """Have the present trial of ``record`` end with a checkpoint, and no other begin.

    The trial is asked too, because it may have outlived whoever began it.

    Raises:
        SweepIdle: the sweep does not run.
    """
    if not is_conducted(store.directory(record.name)):
        raise SweepIdle(record.name)
    store.ask_to_stop(record.name)
    for run in trial_runs(record, runs).values():
        with suppress(RunNotFound):  # somebody deletes it
            if run.status().is_active:
                run.ask_to_stop()
