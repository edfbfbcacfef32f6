"""Going through the trials of a sweep, one after the other, and registering the best.

What a trial does stands in its run's record; what came of it is copied into the sweep's.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from adapters.base import Base
from adapters.errors import AdapterError
from adapters.home import Home
from adapters.registry import Registry
from admin.job_progress import tell
from admin.output import Output
from admin.records.comparison import worked_s
from admin.stopping import on_request
from admin.sweeps import process
from admin.sweeps.errors import SweepFailed
from admin.sweeps.process import Ended, StopRequests
from training.runs import Run, RunStore
from training.stages import Stage
from training.sweeps.record import Outcome, Registered, SweepRecord, TrialRecord
from training.sweeps.standing import outcome_of
from training.sweeps.store import RECIPE, SweepStore, trial_runs
from training.sweeps.trials import overrides, sentence


@dataclass
class Conductor:
    """The one that conducts the sweep ``record``, by the handle ``lock`` that it holds.

    ``base`` is what the trials are told as ``--base``, ``report_to`` are their trackers.
    """

    home: Home
    output: Output
    record: SweepRecord
    base: str
    lock: int
    report_to: Sequence[str] = ()

    def begin(self, *, retry_failed: bool) -> None:
        """Take in what came of trials while nobody looked; failures that are retried go on."""
        store = SweepStore(self.home.sweeps)
        store.forget_stop(self.record.name)
        store.write_recipe(self.record)
        runs = trial_runs(self.record, RunStore(self.home.runs))
        for trial in self.record.trials:
            if trial.outcome is None and trial.id in runs:
                self._note(trial, _outcome(runs[trial.id]))
        for trial in self.record.trials:
            if retry_failed and trial.outcome and trial.outcome.state == "failed":
                self._note(trial, None)
        store.write(self.record)

    def go_on(self) -> bool:
        """Run the trials that have no outcome; false if it was asked to stop before the end.

        Raises:
            SweepFailed: a trial could not begin, so that the next ones could not either.
        """
        store, name = SweepStore(self.home.sweeps), self.record.name
        requests = StopRequests(lambda: store.is_asked_to_stop(name))
        with on_request(requests.ask):
            for number, trial in enumerate(self.record.trials, start=1):
                if trial.outcome is not None:
                    continue
                if requests.look():
                    return False
                self._tell_progress()
                label = f"Trial {number} of {len(self.record.trials)}"
                self._say(f"{label}: {sentence(trial.values)}")
                outcome = self._conduct(trial, requests)
                if outcome is None:
                    return False
                self._note(trial, outcome)
                store.write(self.record)
                self._tell(label, outcome)
        self._tell_progress()
        return True

    def register_best(self, name: str, base: Base) -> Registered:
        """Register the best trial as ``name``, unless it is so already.

        Raises:
            SweepFailed: no trial was completed, or the run of the best one is gone.
            AdapterError: the registry refuses it.
        """
        best, run = self.best_run()
        before, registry = self.record.registered, Registry(self.home.registry)
        if before and (before.trial, before.name) == (best.id, name):
            with suppress(AdapterError):
                if registry.get(name).digest == before.digest:
                    return before
        if not run.adapter.is_dir():
            raise self._lost(best, name)
        entry = registry.register(run.adapter, name, base)
        with run.held():
            run.write_status(msgspec.structs.replace(run.status(), digest=entry.digest))
        made = Registered(best.id, name, entry.digest)
        self.record = msgspec.structs.replace(self.record, registered=made)
        SweepStore(self.home.sweeps).write(self.record)
        return made

    def best_run(self) -> tuple[TrialRecord, Run]:
        """The best trial and its run, which may have been deleted.

        Raises:
            SweepFailed: no trial was completed.
        """
        best = self.record.best()
        if best is None or best.outcome is None:
            raise SweepFailed(
                f"No trial of the sweep '{self.record.name}' was completed, so there is no best "
                "one. `lccc-admin runs show RUN` tells why; --retry-failed tries them again."
            )
        return best, Run(self.home.runs / best.outcome.run)

    def _conduct(self, trial: TrialRecord, requests: StopRequests) -> Outcome | None:
        """Run ``trial`` to its end; ``None`` where it was stopped and can go on."""
        ended = process.run_trial(self._arguments(trial), self.lock, requests)
        run = self._run(trial)
        status = run.status() if run else None
        if run is None or status is None or status.pid != ended.pid:
            if requests.count:
                return None
            anew = f" (after `lccc-admin runs rm {run.id}` the trial begins anew)" if run else ""
            raise SweepFailed(
                f"This trial could not begin ({_end(ended)}); the reason stands above. The next "
                "ones could not either, so the sweep ends here. With that put right, the same "
                f"command goes on{anew}."
            )
        outcome = _outcome(run)
        if outcome is None and ended.code < 0 and not requests.count:
            why = f"Its process died ({_end(ended)}); for want of memory, perhaps."
            self._say(why)
            return _failed(run, why)
        return outcome

    def _arguments(self, trial: TrialRecord) -> list[str]:
        arguments = ["--home", str(self.home.root), "train", "--sweep", self.record.name]
        for tracker in self.report_to:
            arguments += ["--report-to", tracker]
        run = self._run(trial)
        if run is not None:
            return [*arguments, "--resume", run.id]
        name = self.record.adapter(trial)
        return [*arguments, *self._training(trial, name)]

    def _training(self, trial: TrialRecord, name: str) -> list[str]:
        """What `train` is told to make the adapter of ``trial`` as ``name``."""
        told = ["--data", self.record.dataset, "--name", name, "--base", self.base]
        told += ["--recipe", str(self._recipe)]
        return told + [part for one in overrides(trial.values) for part in ("--set", one)]

    @property
    def _recipe(self) -> Path:
        return SweepStore(self.home.sweeps).directory(self.record.name) / RECIPE

    def _run(self, trial: TrialRecord) -> Run | None:
        return trial_runs(self.record, RunStore(self.home.runs)).get(trial.id)

    def _note(self, trial: TrialRecord, outcome: Outcome | None) -> None:
        self.record = self.record.with_outcome(trial, outcome)

    def _lost(self, trial: TrialRecord, name: str) -> SweepFailed:
        import shlex

        command = shlex.join(["lccc-admin", "train", *self._training(trial, name)])
        return SweepFailed(
            f"The run of the best trial, {trial.outcome and trial.outcome.run}, has been deleted, "
            f"and its adapter with it. Train it again with:\n  {command}"
        )

    def _tell(self, label: str, outcome: Outcome) -> None:
        if outcome.state == "failed":
            self._say(f"{label} failed, for the reason above; the sweep goes on without it.")
            return
        best = self.record.best()
        assert best is not None
        assert best.outcome is not None
        self._say(
            f"{label}: validation loss {outcome.validation_nll:.4f}; "
            f"the best so far is {best.outcome.validation_nll:.4f} ({sentence(best.values)})."
        )

    def _tell_progress(self) -> None:
        """To who follows the job that this may be."""
        trials = self.record.trials
        done = sum(one.outcome is not None for one in trials)
        tell(Stage("trials", self.record.name, done, len(trials), done / len(trials)))

    def _say(self, message: str) -> None:
        with suppress(OSError):  # the terminal may be gone
            self.output.say(message)


def _outcome(run: Run) -> Outcome | None:
    return outcome_of(run, worked_s(run.events()))


def _failed(run: Run, why: str) -> Outcome:
    """What came of a run whose process was seen to die."""
    status = run.status()
    return Outcome(
        state="failed",
        run=run.id,
        step=status.step,
        total_steps=status.total_steps,
        validation_nll=status.validation_nll,
        best_step=status.best_step,
        seconds=worked_s(run.events()),
        error=why,
    )


def _end(ended: Ended) -> str:
    if ended.code < 0:
        return f"signal {signal.Signals(-ended.code).name}"
    return f"exit code {ended.code}"
