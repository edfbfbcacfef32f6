"""All runs below one directory: make one, find one, list them, remove one."""

from __future__ import annotations

import errno
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from adapters.storage import Disk
from training.errors import RunNotFound
from training.runs.run import STATUS, Run
from training.runs.status import RunStatus

LEFTOVER_S = 3600.0
# What create() makes, and nothing that leads out of the root.
_ID = re.compile(r"(?!\.)[A-Za-z0-9._-]+")


class RunStore:
    """All runs below ``root``, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, status: RunStatus, recipe: str, environment: dict[str, Any]) -> Run:
        """A new run that stands as ``status``, named for the adapter and the time.

        ``status.id`` is not looked at. The directory appears whole or not at all.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self._sweep()
        staged = Run(self.root / f".new-{uuid4().hex}")
        staged.directory.mkdir()
        try:
            staged.checkpoints.mkdir()
            staged.write("recipe.toml", recipe)
            staged.write("environment.json", msgspec.json.format(msgspec.json.encode(environment)))
            return self._place(staged, status)
        except BaseException:
            shutil.rmtree(staged.directory, ignore_errors=True)
            raise

    def _place(self, staged: Run, status: RunStatus) -> Run:
        """Give the staged run the first name that is free."""
        safe = re.sub(r"[^A-Za-z0-9._-]", "-", status.adapter).lstrip(".") or "run"
        stem = f"{safe}-{time.strftime('%Y%m%d-%H%M%S')}"
        for attempt in range(1000):
            name = f"{stem}-{attempt}" if attempt else stem
            staged.write_status(msgspec.structs.replace(status, id=name))
            try:
                staged.directory.rename(self.root / name)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                Disk().sync(self.root)
                return Run(self.root / name)
        raise RunNotFound(f"{self.root / stem}: too many runs of this name in one second.")

    def get(self, run_id: str) -> Run:
        """The run called ``run_id``; no other run is looked at.

        Raises:
            RunNotFound: there is none; the message lists the newest.
        """
        directory = self.root / run_id
        if _ID.fullmatch(run_id) and (directory / STATUS).is_file():
            return Run(directory)
        newest = ", ".join(run.id for run in self.all()[:5]) or "none yet"
        raise RunNotFound(f"There is no run '{run_id}'. Newest runs: {newest}.")

    def all(self) -> list[Run]:
        """Every run whose status can be read, newest first."""
        if not self.root.is_dir():
            return []
        found: list[tuple[float, str, Run]] = []
        for path in self.root.iterdir():
            run = Run(path)
            if _ID.fullmatch(run.id):
                with suppress(RunNotFound):
                    found.append((run.status().started, run.id, run))
        return [run for _, _, run in sorted(found, key=lambda one: one[:2], reverse=True)]

    def remove(self, run: Run) -> None:
        """Delete the run; it is gone from all lists before its files go.

        Raises:
            RunBusy: somebody trains it.
            OSError: a file cannot be deleted.
        """
        with run.held():
            doomed = self.root / f".removed-{uuid4().hex}"
            run.directory.rename(doomed)
        shutil.rmtree(doomed)

    def _sweep(self) -> None:
        """Delete what a crash left of runs that were being made or removed."""
        for path in self.root.glob(".*-*"):
            is_leftover = path.name.startswith((".new-", ".removed-"))
            with suppress(OSError):
                if is_leftover and time.time() - path.stat().st_mtime > LEFTOVER_S:
                    shutil.rmtree(path)
