"""Run records: one directory a training, readable by anyone without torch.

``runs/<id>/`` holds ``status.json`` (replaced whole), ``recipe.toml`` (resolved),
``environment.json``, ``metrics.jsonl`` (appended), ``log.txt``, ``checkpoints/`` and at the end
``adapter/``. The process that trains is the only writer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from adapters.storage import Disk, replace_file
from training.errors import RunNotFound

# What create() makes, and nothing that leads out of the root.
_ID = re.compile(r"(?!\.)[A-Za-z0-9._-]+")

RunState = Literal["running", "completed", "stopped", "failed", "interrupted"]


class RunStatus(msgspec.Struct, frozen=True, tag_field="format", tag="lccc-run/1"):
    """Where a run stands. Times are Unix seconds; ``validation_nll`` is nats per token.

    ``pid`` and ``process_started`` together name the training process; a run that claims to be
    running although that process is gone reads as ``interrupted``.
    """

    id: str
    state: RunState
    adapter: str
    base: str
    dataset: str
    total_steps: int
    started: float
    updated: float
    pid: int
    process_started: float
    step: int = 0
    best_step: int | None = None
    validation_nll: float | None = None
    error: str | None = None
    digest: str | None = None
    base_path: str | None = None

    @property
    def is_active(self) -> bool:
        return self.state == "running"


class Metric(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of ``metrics.jsonl``. ``loss`` and ``validation_nll`` are nats per target token."""

    kind: Literal["train", "evaluation", "checkpoint"]
    step: int
    time: float
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    tokens_per_s: float | None = None
    dialogues_per_s: float | None = None
    validation_nll: float | None = None
    validation_nll_per_character: float | None = None
    path: str | None = None


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
    def log_path(self) -> Path:
        return self.directory / "log.txt"

    def status(self) -> RunStatus:
        """The current status; ``interrupted`` where the process died without a word."""
        path = self.directory / "status.json"
        try:
            status = msgspec.json.decode(path.read_bytes(), type=RunStatus)
        except (OSError, ValueError) as error:  # msgspec's own errors are ValueErrors
            raise RunNotFound(f"{path} cannot be read: {error}") from error
        if status.is_active and not _is_alive(status.pid, status.process_started):
            return msgspec.structs.replace(status, state="interrupted")
        return status

    def write_status(self, status: RunStatus) -> None:
        """Replace the status in one step, so that readers see the old or the new one."""
        self.write("status.json", msgspec.json.format(msgspec.json.encode(status), indent=2))

    def write(self, name: str, content: bytes | str) -> None:
        """Replace a small file of the record; a crash or a power cut leaves the old or the new."""
        encoded = content.encode() if isinstance(content, str) else content
        replace_file(Disk(), self.directory / name, encoded)

    def append(self, metric: Metric) -> None:
        """Add one metric; a reader never sees half of it as a complete line."""
        with (self.directory / "metrics.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(metric) + b"\n")

    def metrics(self) -> Iterator[Metric]:
        """All complete metrics, oldest first."""
        path = self.directory / "metrics.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield msgspec.json.decode(line, type=Metric)

    def drop_metrics_after(self, step: int) -> None:
        """Forget what was recorded past the checkpoint at ``step`` that the run resumes from."""
        kept = [msgspec.json.encode(m) + b"\n" for m in self.metrics() if m.step <= step]
        self.write("metrics.jsonl", b"".join(kept))

    def log(self, message: str) -> None:
        """One line of the log, with the local time."""
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")


class RunStore:
    """All runs below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, adapter: str, recipe: str, environment: dict[str, Any]) -> Run:
        """A new run's directory, named for the adapter and the time."""
        stem = f"{re.sub(r'[^A-Za-z0-9._-]', '-', adapter)}-{time.strftime('%Y%m%d-%H%M%S')}"
        self.root.mkdir(parents=True, exist_ok=True)
        for attempt in range(1000):
            directory = self.root / (f"{stem}-{attempt}" if attempt else stem)
            try:
                directory.mkdir()
            except FileExistsError:
                continue
            run = Run(directory)
            run.checkpoints.mkdir()
            run.write("recipe.toml", recipe)
            run.write("environment.json", msgspec.json.format(msgspec.json.encode(environment)))
            return run
        raise RunNotFound(f"{self.root / stem}: too many runs of this name in one second.")

    def get(self, run_id: str) -> Run:
        """The run called ``run_id``; no other run is looked at.

        Raises:
            RunNotFound: there is none; the message lists the newest.
        """
        directory = self.root / run_id
        if _ID.fullmatch(run_id) and (directory / "status.json").is_file():
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
            with suppress(RunNotFound):
                found.append((run.status().started, run.id, run))
        return [run for _, _, run in sorted(found, reverse=True)]


def process_started(pid: int) -> float:
    """When the process began (Unix seconds); 0 if there is no such process."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, ValueError):  # gone, another user's, or no possible pid
        return 0.0


def _is_alive(pid: int, started: float) -> bool:
    """True while the very process that wrote the status runs; a reused pid began later."""
    return started > 0 and abs(process_started(pid) - started) < 1.0
