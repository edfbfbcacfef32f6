"""One run's directory: its files, its lock, and the request to stop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from adapters.storage import Disk, is_in_use, locks_alone, replace_file
from training.errors import RunBusy, RunNotFound
from training.runs.event import Event
from training.runs.history import standing
from training.runs.reader import read_events
from training.runs.status import RunStatus

STATUS = "status.json"


class Run:
    """One run's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def id(self) -> str:
        return self.directory.name

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def adapter(self) -> Path:
        """Where the finished adapter is written (a PEFT directory with our manifest)."""
        return self.directory / "adapter"

    @property
    def recipe_path(self) -> Path:
        return self.directory / "recipe.toml"

    @property
    def environment_path(self) -> Path:
        return self.directory / "environment.json"

    @property
    def events_path(self) -> Path:
        return self.directory / "events.jsonl"

    @property
    def log_path(self) -> Path:
        return self.directory / "log.txt"

    def status(self) -> RunStatus:
        """The current status; ``interrupted`` where the process died without a word.

        Raises:
            RunNotFound: it cannot be read.
        """
        try:
            status = self._written_status()
            if status.is_active and not self.is_held():
                status = self._written_status()  # it may have ended since
                if status.is_active and not self.is_held():
                    return msgspec.structs.replace(status, state="interrupted")
        except (OSError, ValueError) as error:  # msgspec's own errors are ValueErrors
            raise RunNotFound(f"{self.directory / STATUS} cannot be read: {error}") from error
        return status

    def _written_status(self) -> RunStatus:
        return msgspec.json.decode((self.directory / STATUS).read_bytes(), type=RunStatus)

    def write_status(self, status: RunStatus) -> None:
        """Replace the status in one step, so that readers see the old or the new one."""
        self.write(STATUS, msgspec.json.format(msgspec.json.encode(status), indent=2))

    def write(self, name: str, content: bytes | str) -> None:
        """Replace a small file of the record; a crash or a power cut leaves the old or the new."""
        encoded = content.encode() if isinstance(content, str) else content
        replace_file(Disk(), self.directory / name, encoded)

    def events(self) -> list[Event]:
        """All that happened, oldest first, without what a resumption has superseded."""
        return standing(read_events(self.events_path))

    def log(self, message: str) -> None:
        """One line of the log, with the local time."""
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the one process that writes to the run, to the end or a crash.

        Raises:
            RunBusy: another is.
            OSError: the directory is gone.
        """
        handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not locks_alone(handle):
                raise RunBusy(self.id, self._process())
            yield
        finally:
            os.close(handle)

    def _process(self) -> int | None:
        try:
            return self._written_status().pid
        except (OSError, ValueError):
            return None

    def is_held(self) -> bool:
        """Whether a living process writes to the run."""
        return is_in_use(self.directory)

    def ask_to_stop(self) -> None:
        """Have whoever trains end after the present step, with a checkpoint."""
        self._stop.touch()

    def is_asked_to_stop(self) -> bool:
        return self._stop.exists()

    def forget_stop(self) -> None:
        """A run that begins or goes on was not asked yet."""
        self._stop.unlink(missing_ok=True)

    @property
    def _stop(self) -> Path:
        return self.directory / "stop"
