"""Jobs: the command line in processes of their own, which neither page nor server takes along.

``jobs/ID/`` holds ``job.json``, ``output.txt`` (what the command says), ``progress`` (how far it
is, where it tells), at the end ``exit`` (its code), ``run`` once it is known which run a training
became, and ``cancel`` once someone has asked for its end. The process inherits a lock on the
directory and holds it for as long as it lives, so that any server can tell, also one that did not
start it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from adapters.home import Home
from adapters.storage import Disk, is_in_use, replace_file
from server.console.command import check_arguments, error_in
from server.errors import Problem, Refused
from server.wire.jobs import JobProgress
from training.runs import RunStore

logger = logging.getLogger(__name__)

Kind = Literal["train", "resume", "prepare", "merge", "evaluate", "sweep"]
State = Literal["running", "completed", "failed", "cancelled"]

MOST_KEPT = 100
_ID = re.compile(r"[0-9]{14}-[0-9a-f]{8}")
_SHOWN = 16 << 10  # bytes of output
_SAME_START_S = 1.0


class JobRecord(msgspec.Struct, frozen=True, tag_field="format", tag="lccc-job/1"):
    """What was started. ``subject`` is the adapter, dataset or base that it makes or looks at.

    ``result`` is the path of what it leaves behind once it is complete.
    """

    kind: Kind
    subject: str
    arguments: tuple[str, ...]
    started: float
    pid: int
    run: str | None = None
    result: str | None = None


class JobNotFound(Exception):
    """There is no job of this id."""


class JobEnded(Exception):
    """It cannot be cancelled any more. The text is its state."""


class Job:
    """One job's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def id(self) -> str:
        return self.directory.name

    @property
    def output_path(self) -> Path:
        return self.directory / "output.txt"

    def record(self) -> JobRecord:
        """What was started.

        Raises:
            JobNotFound: it cannot be read.
        """
        try:
            return msgspec.json.decode((self.directory / "job.json").read_bytes(), type=JobRecord)
        except (OSError, ValueError) as error:
            raise JobNotFound(self.id) from error

    def state(self) -> State:
        """A process that died without a word has failed, unless it was told to end."""
        if (code := self._exit()) is None and is_in_use(self.directory):
            return "running"
        if code is None:
            code = self._exit()  # it may have ended since
        if code == 0:
            return "completed"
        return "cancelled" if self.is_asked_to_cancel() else "failed"

    def _exit(self) -> int | None:
        with suppress(OSError, ValueError):
            return int((self.directory / "exit").read_text("ascii"))
        return None

    def is_asked_to_cancel(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return (self.directory / "cancel").exists()

    def cancel(self) -> None:
        """Ask the process to end; it removes what is half made first.

        A training that steps already ends with a checkpoint, as after `lccc-admin runs stop`.

        Raises:
            JobEnded: there is no process any more.
        """
        pid = self.record().pid
        if (state := self.state()) != "running":
            raise JobEnded(state)
        replace_file(Disk(), self.directory / "cancel", b"")
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    def output(self) -> str:
        """The last of what it wrote."""
        with suppress(OSError), self.output_path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _SHOWN))
            return file.read().decode("utf-8", "replace")
        return ""

    def progress(self) -> JobProgress | None:
        """How far it is, or was at its end, where it has told that."""
        with suppress(OSError, ValueError):
            found = (self.directory / "progress").read_bytes()
            return msgspec.json.decode(found, type=JobProgress)
        return None

    def error(self) -> str | None:
        """The command's message, of a job that failed."""
        if self.state() != "failed":
            return None
        output = self.output()
        return error_in(output) or output.strip().rpartition("\n")[2] or "It ended without a word."

    def run(self) -> str | None:
        """The run that a resumption continues, or that a training was found to be."""
        if named := self.record().run:
            return named
        with suppress(OSError):
            return (self.directory / "run").read_text("utf-8")
        return None


class Jobs:
    """All jobs below ``home``. Those that have ended are kept, up to :data:`MOST_KEPT`."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._root = home.jobs

    def start(
        self,
        kind: Kind,
        subject: str,
        arguments: Sequence[str],
        *,
        run: str | None = None,
        result: Path | None = None,
    ) -> Job:
        """Run the command line with ``arguments``, apart from this process.

        ``result`` is what it will leave behind.

        Raises:
            Refused: 400, an argument is none; 503, the process cannot be started.
        """
        check_arguments(arguments)
        now = time.time()
        stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(now))
        job = Job(self._root / f"{stamp}-{secrets.token_hex(4)}")
        made = None if result is None else str(result)
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._forget_old()
            job.directory.mkdir()
            process = self._locked_process(job, arguments)
            record = JobRecord(kind, subject, tuple(arguments), now, process.pid, run, made)
            _put_on_record(job, record, process)
        except OSError as error:
            shutil.rmtree(job.directory, ignore_errors=True)
            raise Refused(_not_started(error)) from error
        # Whoever started a process has to ask for its end, or it stays in the table.
        threading.Thread(target=process.wait, name=f"job {job.id}", daemon=True).start()
        return job

    def _locked_process(self, job: Job, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        lock = os.open(job.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self._process(job, arguments, lock)
        finally:
            os.close(lock)  # the process has it too, and keeps it locked

    def _process(self, job: Job, arguments: Sequence[str], lock: int) -> subprocess.Popen[bytes]:
        where = ["--home", str(self._home.root)]
        with job.output_path.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "admin.job", str(job.directory), *where, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                pass_fds=(lock,),
            )

    def all(self) -> list[Job]:
        """Every job that can be read, newest first; runs of trainings are looked for."""
        if not self._root.is_dir():
            return []
        found = sorted(self._directories(), key=lambda path: path.name, reverse=True)
        jobs = [Job(path) for path in found if (path / "job.json").is_file()]
        self._find_runs(jobs)
        return jobs

    def get(self, job_id: str) -> Job:
        """The job called ``job_id``.

        Raises:
            JobNotFound: there is none.
        """
        job = Job(self._root / job_id)
        if not _ID.fullmatch(job_id) or not (job.directory / "job.json").is_file():
            raise JobNotFound(job_id)
        self._find_runs([job])
        return job

    def _directories(self) -> list[Path]:
        return [path for path in self._root.iterdir() if _ID.fullmatch(path.name)]

    def _find_runs(self, jobs: Sequence[Job]) -> None:
        """Note which runs trainings have become: those of the same process since its start."""
        records = {job.id: job.record() for job in jobs}
        lost = [job for job in jobs if records[job.id].kind == "train" and job.run() is None]
        if not lost:
            return
        statuses = [run.status() for run in RunStore(self._home.runs).all()]
        for job in lost:
            record = records[job.id]
            for status in statuses:
                is_later = status.started >= record.started - _SAME_START_S
                if status.pid == record.pid and is_later and status.adapter == record.subject:
                    replace_file(Disk(), job.directory / "run", status.id.encode())

    def _forget_old(self) -> None:
        for path in sorted(self._directories(), reverse=True)[MOST_KEPT:]:
            if not is_in_use(path):
                shutil.rmtree(path, ignore_errors=True)


def _put_on_record(job: Job, record: JobRecord, process: subprocess.Popen[bytes]) -> None:
    """Write down what runs. A process that nobody could find again is ended."""
    try:
        replace_file(Disk(), job.directory / "job.json", msgspec.json.encode(record))
    except OSError:
        process.kill()
        process.wait()
        raise


def _not_started(error: OSError) -> Problem:
    logger.error("A process cannot be started: %s", error)
    reason = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    message = (
        f"The process could not be started: {reason}. Nothing has begun; make room on the server's "
        "disk or fix its permissions, then ask again."
    )
    return Problem(status=503, message=message, type="server_error", code="not_started")
