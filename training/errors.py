"""What preparation and training refuse or fail at.

TrainingError
├── DataError         a file or record cannot be used (says which, and why)
├── DatasetNotFound   no prepared dataset of this name
├── RecipeError       a hyperparameter is unknown or out of range (names it)
├── DownloadFailed    a base could not be fetched from the hub
├── RunNotFound       no run of this id
├── RunBusy           a run is in use by another process
├── DeviceBusy        another training is on the GPU
├── DeviceMissing     there are fewer GPUs than processes
├── TrackerMissing    a tracker of experiments is not installed
├── TrackerFailed     a tracker of experiments cannot be started
├── ExportFailed      an adapter cannot be merged or given away in this form
├── ResumeRefused     a run cannot be continued as asked
├── SweepError        a sweep's file is wrong, or has changed (names the field)
├── SweepNotFound     no sweep of this name has begun
├── SweepBusy         a sweep is conducted by another process
├── SweepIdle         a sweep that does not run cannot be stopped
└── TrainingFailed    a run broke off; its record says where
    └── NoRoom        the disk is too small for it, or full
"""

from __future__ import annotations

from pathlib import Path

from adapters.errors import LcccError


class TrainingError(LcccError):
    """Base of the expected failures of data preparation and training."""


class DataError(TrainingError):
    """Input that cannot be used. ``record`` counts from 1 within ``file``."""

    def __init__(
        self, message: str, *, file: Path | None = None, record: int | None = None
    ) -> None:
        self.file = file
        self.record = record
        where = f"{file}, record {record}: " if file and record else f"{file}: " if file else ""
        super().__init__(f"{where}{message}")


class DatasetNotFound(TrainingError):
    """There is no prepared dataset of this name."""

    def __init__(self, name: str, known: list[str]) -> None:
        listed = ", ".join(known) if known else "none yet"
        super().__init__(
            f"No dataset is called '{name}'. Prepared: {listed}. "
            f"`lccc-admin data prepare FILE --name {name}` makes one."
        )


class RecipeError(TrainingError):
    """A recipe or an override is wrong; the message names the field."""


class DownloadFailed(TrainingError):
    """The hub has no such base, or cannot be reached."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"'{name}' could not be downloaded: {reason}. Check the name and the connection; "
            "or download it elsewhere and give its directory as --base. `--base pocket` needs none."
        )


class RunNotFound(TrainingError):
    """There is no run of this id."""


class RunBusy(TrainingError):
    """Another process trains the run."""

    def __init__(self, run_id: str, pid: int | None) -> None:
        process = f" (process {pid})" if pid else ""
        super().__init__(f"The run {run_id} is still running{process}.")


class DeviceBusy(TrainingError):
    """Another training is on the GPU."""

    def __init__(self, name: str, pid: str) -> None:
        process = f" (process {pid})" if pid.isdigit() else ""
        super().__init__(
            f"Another training is running on this GPU ({name}){process}. Wait for its end, stop it "
            "with `lccc-admin runs stop RUN`, or choose another GPU with CUDA_VISIBLE_DEVICES."
        )


class DeviceMissing(TrainingError):
    """There are fewer GPUs on the machine than processes that train on it."""

    def __init__(self, processes: int, gpus: int) -> None:
        super().__init__(
            f"{processes} processes on this machine need a GPU each, and there are {gpus}: "
            f"--processes {gpus}, or more machines with --machines."
        )


class TrackerMissing(TrainingError):
    """A tracker of experiments is not installed."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"--report-to {name} needs a package that is not here ({reason}): pip install {name}. "
            "Without --report-to, `lccc-admin runs watch` and `plot` need nothing."
        )


class TrackerFailed(TrainingError):
    """A tracker of experiments cannot be started."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(
            f"--report-to {name} could not be started: {error}. Put that right, or leave it out."
        )


class ResumeRefused(TrainingError):
    """The run cannot be resumed like this; the message shows the difference."""


class SweepError(TrainingError):
    """A sweep's file is wrong, or no longer says what it said; the message names the field."""


class SweepNotFound(TrainingError):
    """No sweep of this name has begun."""


class SweepBusy(TrainingError):
    """Another process conducts the sweep, or one of its trials."""

    def __init__(self, name: str, pid: str) -> None:
        process = f" (process {pid}, or the trial that it began)" if pid.isdigit() else ""
        super().__init__(
            f"The sweep '{name}' is running already{process}. `lccc-admin sweep FILE --status` "
            "shows how far it is, and --stop has it end with a checkpoint."
        )


class SweepIdle(TrainingError):
    """Nobody conducts the sweep, so there is nothing to stop."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The sweep '{name}' is not running.")


class TrainingFailed(TrainingError):
    """The training broke off. Its checkpoints are kept."""


class NoRoom(TrainingFailed):
    """The disk is too small for a training, or full; the message says how much is needed."""


class ExportFailed(TrainingError):
    """An adapter cannot be merged or exported so, or what was written is not what it should be."""
