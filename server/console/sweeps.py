"""Sweeps as the console lists, plans, starts, stops and goes on with them.

Their records need no torch and are read here; what is to be done is done by the command line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from adapters.base import DEFAULT_BASE
from adapters.home import Home
from server.console.command import command
from server.console.jobs import Job, Jobs
from server.console.recipes import is_known_recipe, known_bases
from server.console.uploads import Uploads
from server.errors import Problem, Refused, wrong_state
from server.wire.sweeps import SweepCard, SweepDetail, SweepList, TrialCard
from training.errors import RecipeError, SweepError, SweepIdle, SweepNotFound
from training.runs import Run, RunStore
from training.sweeps.definition import parse_sweep
from training.sweeps.lock import is_conducted
from training.sweeps.record import SweepRecord
from training.sweeps.standing import by_loss, standings
from training.sweeps.stopping import stop
from training.sweeps.store import RECORD, SweepStore, trial_runs
from training.sweeps.trials import expand

FILE = "sweep.toml"  # what a sweep that comes over HTTP is called in messages


class Sweeps:
    """The sweeps of ``home``, where the base ``served`` is one that trainings can begin from."""

    def __init__(self, home: Home, served: str, jobs: Jobs, uploads: Uploads) -> None:
        self._home = home
        self._served = served
        self._jobs = jobs
        self._uploads = uploads
        self._store = SweepStore(home.sweeps)
        self._runs = RunStore(home.runs)

    def list(self) -> SweepList:
        """Every one that has begun."""
        found: list[SweepCard] = []
        broken: dict[str, str] = {}
        for name in self._store.names():
            try:
                found.append(self._card(self._store.get(name)))
            except (SweepNotFound, OSError):
                continue  # removed since it was listed
            except SweepError as error:
                broken[name] = str(error)
        newest = sorted(found, key=lambda one: one.updated, reverse=True)
        return SweepList(data=newest, broken=broken)

    def detail(self, name: str) -> SweepDetail:
        """One of them with its trials.

        Raises:
            SweepNotFound: there is none.
            SweepError: its record cannot be read.
        """
        record = self._get(name)
        runs = trial_runs(record, self._runs)
        return SweepDetail(
            sweep=self._card(record),
            trials=[_trial(one, runs) for one in by_loss(standings(record, runs))],
            duplicates=record.duplicates,
        )

    async def plan(self, definition: str) -> Any:
        """What `sweep --dry-run` says of it, as values.

        Raises:
            Refused: 400 for what it refuses, 503 where it takes too long.
        """
        await asyncio.to_thread(self._check, definition)
        with TemporaryDirectory(prefix="lccc-sweep-") as folder:
            path = Path(folder) / FILE
            path.write_text(definition, "utf-8")
            try:
                return await command(self._home, "sweep", str(path), "--dry-run", "--json")
            except Refused as error:
                problem = error.problem
                said = problem.message.replace(str(path), FILE)
                param = "definition" if problem.status == HTTPStatus.BAD_REQUEST else None
                raise Refused(
                    msgspec.structs.replace(problem, message=said, param=param)
                ) from error

    def start(self, definition: str) -> Job:
        """Begin it, or go on with it where it has begun.

        Raises:
            Refused: 400, something in it is wrong; 409, it runs already.
        """
        name = self._check(definition)
        self._check_idle(name)
        content = definition.encode()
        upload = self._uploads.begin(FILE, len(content))
        self._uploads.append(upload.id, 0, content)
        return self._jobs.start("sweep", name, ["sweep", str(self._uploads.path(upload.id))])

    def stop(self, name: str) -> SweepCard:
        """Have it end with a checkpoint of its present trial.

        Raises:
            SweepNotFound, SweepError: as :meth:`detail`.
            Refused: 409, it does not run.
        """
        record = self._get(name)
        try:
            stop(self._store, self._runs, record)
        except SweepIdle as error:
            raise wrong_state(str(error)) from error
        return self._card(record)

    def resume(self, name: str, *, retry_failed: bool) -> Job:
        """Go on with it; with those of its trials that failed, too, where that is asked for.

        Raises:
            SweepNotFound, SweepError: as :meth:`detail`.
            Refused: 409, it runs, or the file that says how is not there.
        """
        self._get(name)
        self._check_idle(name)
        path = self._store.definition(name)
        if not path.is_file():
            raise wrong_state(f"The sweep '{name}' goes on with the file that it began with.")
        retries = ["--retry-failed"] if retry_failed else []
        return self._jobs.start("sweep", name, ["sweep", str(path), *retries])

    def _get(self, name: str) -> SweepRecord:
        """The record of ``name``, which comes from a client."""
        if name not in self._store.names():
            raise SweepNotFound(f"There is no sweep {name!r}; `GET /admin/sweeps` lists them.")
        return self._store.get(name)

    def _check(self, definition: str) -> str:
        """Refuse what `lccc-admin sweep` would, and files that are named; the sweep's name."""
        with suppress(msgspec.DecodeError, ValueError, RecursionError):  # refused below, in words
            self._check_files(msgspec.toml.decode(definition))
        try:
            found = parse_sweep(definition.encode(), Path(FILE))
            expand(found)
        except (SweepError, RecipeError, UnicodeEncodeError) as error:
            raise _wrong(str(error)) from error
        return found.name

    def _check_files(self, values: Mapping[str, Any]) -> None:
        recipe, base = values.get("recipe"), values.get("base", DEFAULT_BASE)
        if isinstance(recipe, str) and not is_known_recipe(recipe):
            raise _wrong(
                f"{FILE}: recipe: {recipe!r} is none of those that `GET /admin/recipes` "
                "lists; name one of them, or write the recipe into the file."
            )
        if base not in known_bases(self._home, self._served):
            raise _wrong(
                f"{FILE}: base: {base!r} is none of those that `GET /admin/recipes` lists."
            )

    def _check_idle(self, name: str) -> None:
        if is_conducted(self._store.directory(name)):
            raise wrong_state(f"The sweep '{name}' is running already.")

    def _card(self, record: SweepRecord) -> SweepCard:
        outcomes = [trial.outcome for trial in record.trials if trial.outcome]
        best, directory = record.best(), self._store.directory(record.name)
        is_running = is_conducted(directory)
        return SweepCard(
            name=record.name,
            dataset=record.dataset,
            base=record.base.name,
            search=record.search,
            fields=list(dict.fromkeys(name for one in record.trials for name in one.values)),
            is_running=is_running,
            is_asked_to_stop=is_running and self._store.is_asked_to_stop(record.name),
            can_go_on=self._store.definition(record.name).is_file(),
            trials=len(record.trials),
            completed=sum(one.state == "completed" for one in outcomes),
            failed=sum(one.state == "failed" for one in outcomes),
            best=best.id if best else None,
            validation_nll=best.outcome.validation_nll if best and best.outcome else None,
            registered=record.registered.name if record.registered else None,
            updated=(directory / RECORD).stat().st_mtime,
        )


def _trial(one: Any, runs: Mapping[str, Run]) -> TrialCard:
    return msgspec.convert(
        msgspec.structs.asdict(one) | {"has_run": one.id in runs and runs[one.id].id == one.run},
        TrialCard,
    )


def _wrong(message: str) -> Refused:
    problem = Problem(status=400, message=message, param="definition", code="command_refused")
    return Refused(problem)
