"""Training in several processes: ``accelerate launch`` starts them, this one looks after them.

They run ``lccc-admin train`` again with ``--group DIR``, a directory in which they are asked to
stop (``stop``) and say why they broke off (``failure``). The first of them prints what a training
prints; they have a session of their own, so that Ctrl-C reaches this process alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil

from adapters.environment import cpu_share, usable_cpus
from adapters.errors import LcccError
from admin.stopping import announced, on_request

if TYPE_CHECKING:
    from training.execution.group import Group

LOOK_EVERY_S = 0.1


class GroupFailed(LcccError):
    """One of the processes broke off; the message is its own."""


@dataclass(frozen=True)
class Machines:
    """Which of ``count`` machines this is (``rank``, from 0), and where the first one listens."""

    count: int = 1
    rank: int = 0
    address: str | None = None
    port: int | None = None

    @classmethod
    def of(cls, count: int, rank: int, address: str | None) -> Machines:
        """From the options of the command line.

        Raises:
            click.UsageError: they do not go together.
        """
        if count == 1:
            return cls()
        host, _, port = (address or "").rpartition(":")
        if not host or not port.isdigit():
            raise click.UsageError("--machines needs --main-address HOST:PORT, that of machine 0.")
        if rank >= count:
            raise click.UsageError(f"--machine-rank counts from 0 to {count - 1}.")
        return cls(count, rank, host, int(port))


class GroupDirectory:
    """The directory by which a launched process and the one that looks after it talk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def made_in(cls, path: Path) -> GroupDirectory:
        """That of this process, which looks after the others."""
        (path / "watcher").write_text(str(os.getpid()))
        return cls(path)

    @property
    def path(self) -> Path:
        return self._path

    def ask_to_stop(self) -> None:
        (self._path / "stop").touch()

    def is_asked_to_stop(self) -> bool:
        """Also when nobody looks after the processes any more."""
        return (self._path / "stop").exists() or not self._is_watched()

    def outlast_watcher(self) -> None:
        """Wait to be ended; if nobody is left to do it, return."""
        while self._is_watched():
            time.sleep(LOOK_EVERY_S)

    def _is_watched(self) -> bool:
        with suppress(OSError, ValueError):
            return psutil.pid_exists(int((self._path / "watcher").read_text()))
        return False

    def fail(self, message: str) -> None:
        """Say why this process breaks off; the first to say so is heard."""
        staged = self._path / f".failure-{os.getpid()}"
        with suppress(OSError):  # also when the directory is gone, and with it who would read it
            staged.write_text(message, encoding="utf-8")
            with suppress(FileExistsError):
                (self._path / "failure").hardlink_to(staged)
            staged.unlink()

    def failure(self) -> str | None:
        """Why one of the processes broke off."""
        with suppress(FileNotFoundError):
            return (self._path / "failure").read_text(encoding="utf-8")
        return None


def launch(
    arguments: Sequence[str], processes: int, machines: Machines, say: Callable[[str], None]
) -> None:
    """Run ``lccc-admin`` with ``arguments`` in ``processes`` processes on each machine, to the end.

    The first SIGINT or SIGTERM asks for an end with a checkpoint, a second one ends them at once.

    Raises:
        GroupFailed: one of them broke off; all others are gone.
    """
    with tempfile.TemporaryDirectory(prefix="lccc-train-") as folder:
        group = GroupDirectory.made_in(Path(folder))
        command = command_line(arguments, processes, machines, group.path)
        with subprocess.Popen(command, start_new_session=True, env=_environment()) as launcher:
            try:
                _look_after(launcher, group, say, is_first=machines.rank == 0)
            finally:
                _end(launcher)
        if message := group.failure():
            raise GroupFailed(message)
        if launcher.returncode and not group.is_asked_to_stop():
            raise GroupFailed(
                f"The processes ended with exit code {launcher.returncode}; what they said stands "
                "above. `lccc-admin runs list` shows the run, `train --resume RUN` goes on."
            )


def command_line(
    arguments: Sequence[str], processes: int, machines: Machines, group: Path
) -> list[str]:
    """What starts the processes of this machine."""
    port = machines.port or _free_port()
    threads = max(1, (cpu_share() or usable_cpus()) // processes)
    options = {
        "num_processes": processes * machines.count,
        "num_machines": machines.count,
        "machine_rank": machines.rank,
        "main_process_ip": machines.address or "127.0.0.1",
        "main_process_port": port,
        "num_cpu_threads_per_process": threads,
        "mixed_precision": "no",  # the recipe says in which precision is computed
        "dynamo_backend": "no",
    }
    told = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    shared = ["--multi_gpu"] if processes * machines.count > 1 else []
    return [*launcher, *shared, *told, "-m", "admin", *arguments, "--group", str(group)]


def _look_after(
    launcher: subprocess.Popen[bytes],
    group: GroupDirectory,
    say: Callable[[str], None],
    *,
    is_first: bool,
) -> None:
    """Wait for the end; signals become a request to stop."""
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        group.ask_to_stop()

    with on_request(ask):
        while launcher.poll() is None and group.failure() is None:
            if asked > 1 or (asked and not is_first):
                say("Ended at once; `train --resume RUN` goes on from the last checkpoint.")
                return
            time.sleep(LOOK_EVERY_S)


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """Leave nobody behind: the launcher gives each process a session of its own."""
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(launcher.pid)
        for process in [started, *started.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _environment() -> dict[str, str]:
    """Without what belongs to this process: each of the others has its share of the threads."""
    return {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def joined(directory: Path | None) -> Iterator[Group]:
    """The processes that train together; why this one breaks off is told in ``directory``."""
    from training.execution.group import ALONE

    if directory is None:
        yield ALONE
        return
    from training.execution.processes import Processes

    sys.argv = ["lccc-admin", *sys.argv[1 : sys.argv.index("--group")]]  # what the record shows
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    group = GroupDirectory(directory)
    try:
        together = Processes(local, int(os.environ["LOCAL_WORLD_SIZE"]))
        yield together
    except LcccError as error:
        group.fail(str(error))
        group.outlast_watcher()  # it says it, and ends all of us; nobody sees the other one go
        raise SystemExit(1) from error
    except Exception as error:
        if rank > 0:
            group.fail(f"Process {rank} broke off: {error}")
        raise
    together.close()


def stop_when_asked(directory: Path, say: Callable[[str], None]) -> Callable[[], bool]:
    """The question whether to stop, for a process that another one looks after."""
    return announced(GroupDirectory(directory).is_asked_to_stop, say)
