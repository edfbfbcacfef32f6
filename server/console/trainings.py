"""Trainings as the console plans, starts, stops and resumes them: through the command line."""

from __future__ import annotations

from typing import Any

from adapters.home import Home
from server.console.command import command
from server.console.datasets import dataset_names
from server.console.jobs import Job, Jobs
from server.console.recipes import is_known_recipe, known_bases
from server.console.run_records import RunRecords
from server.errors import not_listed, wrong_state
from server.wire.runs import TrainingRequest
from training.recipe import DEFAULT_RECIPE
from training.runs import Run

_ENDED = ("stopped", "failed", "interrupted")


class Trainings:
    """The trainings of ``home``; ``served`` is the base that new ones begin from by default."""

    def __init__(self, home: Home, served: str, records: RunRecords, jobs: Jobs) -> None:
        self._home = home
        self._served = served
        self._records = records
        self._jobs = jobs

    async def plan(self, asked: TrainingRequest) -> Any:
        """What `train --dry-run` says of it, as values.

        Raises:
            Refused: 400 for what it refuses, 503 where it takes too long.
        """
        return await command(self._home, *self._arguments(asked), "--dry-run", "--json")

    def start(self, asked: TrainingRequest) -> Job:
        """Begin it.

        Raises:
            Refused: 400, naming a field.
        """
        return self._jobs.start("train", asked.adapter, self._arguments(asked))

    def stop(self, run_id: str) -> Run:
        """Ask a run to end; it does so after its present step.

        Raises:
            RunNotFound: there is none.
            Refused: 409, it is not running.
        """
        run = self._records.get(run_id)
        status = run.status()
        if not status.is_active:
            raise wrong_state(f"The run {run_id} is not running: it is {status.state}.")
        run.ask_to_stop()
        return run

    def resume(self, run_id: str) -> Job:
        """Go on with a run that was stopped or broke off.

        Raises:
            RunNotFound: there is none.
            Refused: 409, there is nothing to go on with.
        """
        status = self._records.get(run_id).status()
        if status.state not in _ENDED:
            raise wrong_state(f"The run {run_id} cannot be resumed: it is {status.state}.")
        arguments = ["train", f"--resume={run_id}"]
        return self._jobs.start("resume", status.adapter, arguments, run=run_id)

    def _arguments(self, asked: TrainingRequest) -> list[str]:
        if asked.dataset not in dataset_names(self._home.datasets):
            raise not_listed("dataset", asked.dataset, "datasets")
        recipe, base = asked.recipe or DEFAULT_RECIPE, asked.base or self._served
        if not is_known_recipe(recipe):
            raise not_listed("recipe", recipe, "recipes")
        if base not in known_bases(self._home, self._served):
            raise not_listed("base", base, "recipes")
        return [
            "train",
            f"--data={asked.dataset}",
            f"--name={asked.adapter}",
            f"--base={base}",
            f"--recipe={recipe}",
            *(f"--set={name}={value}" for name, value in asked.overrides.items()),
        ]
