"""The sweeps of a home on disk: their records, replaced whole, and the runs of their trials."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.storage import Disk, make_directories, replace_file
from training.errors import RunNotFound, SweepError, SweepNotFound
from training.runs import Run, RunStore
from training.sweeps.definition import Definition
from training.sweeps.record import SweepRecord

RECORD = "sweep.json"
RECIPE = "recipe.toml"
DEFINITION = "sweep.toml"
_STOP = "stop"


class SweepStore:
    """All sweeps below ``root``, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """The sweeps that have begun."""
        return sorted(path.parent.name for path in self.root.glob(f"[!.]*/{RECORD}"))

    def directory(self, name: str) -> Path:
        """Where the sweep ``name`` is kept, or will be."""
        return self.root / name

    def make_directory(self, name: str) -> Path:
        """The same, after making it."""
        make_directories(Disk(), self.directory(name))
        return self.directory(name)

    def find(self, name: str) -> SweepRecord | None:
        """The record of the sweep ``name``; ``None`` where it has not begun.

        Raises:
            SweepError: it cannot be read.
        """
        path = self.directory(name) / RECORD
        try:
            return msgspec.json.decode(path.read_bytes(), type=SweepRecord)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise SweepError(f"{path} cannot be read: {error}.") from error

    def get(self, name: str) -> SweepRecord:
        """The record of the sweep ``name``.

        Raises:
            SweepNotFound: it has not begun.
            SweepError: its record cannot be read.
        """
        record = self.find(name)
        if record is None:
            raise SweepNotFound(
                f"The sweep '{name}' has not begun. `lccc-admin sweep FILE` begins it, and "
                "--dry-run shows its trials."
            )
        return record

    def write(self, record: SweepRecord) -> None:
        """Replace the record; a crash or a power cut leaves the old or the new."""
        encoded = msgspec.json.format(msgspec.json.encode(record), indent=2)
        replace_file(Disk(), self.directory(record.name) / RECORD, encoded)

    def write_recipe(self, record: SweepRecord) -> Path:
        """The file with the recipe that all trials have in common."""
        path = self.directory(record.name) / RECIPE
        replace_file(Disk(), path, record.common.toml().encode())
        return path

    def write_definition(self, definition: Definition, base: str) -> None:
        """Keep a file that goes on with the sweep, wherever the one that began it lies.

        ``base`` is what ``--base`` takes; the recipe is the one that trials have in common.
        """
        path = self.definition(definition.name)
        replace_file(Disk(), path, definition.toml(base, RECIPE).encode())

    def definition(self, name: str) -> Path:
        """Where that file is."""
        return self.directory(name) / DEFINITION

    def ask_to_stop(self, name: str) -> None:
        """Have the sweep's present trial end with a checkpoint, and begin no other."""
        (self.directory(name) / _STOP).touch()

    def is_asked_to_stop(self, name: str) -> bool:
        """Whether it was asked to since it has begun or gone on."""
        return (self.directory(name) / _STOP).exists()

    def forget_stop(self, name: str) -> None:
        """It goes on."""
        (self.directory(name) / _STOP).unlink(missing_ok=True)


def trial_runs(record: SweepRecord, runs: RunStore) -> dict[str, Run]:
    """The newest run of each trial that has one, by the trial's id."""
    ids = {record.adapter(trial): trial.id for trial in record.trials}
    found: dict[str, Run] = {}
    for run in runs.all():
        with suppress(RunNotFound):  # somebody deletes it
            status = run.status()
            if status.sweep == record.name and status.adapter in ids:
                found.setdefault(ids[status.adapter], run)
    return found
