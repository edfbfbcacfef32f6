"""Jobs: processes of the command line that are known by their directory alone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adapters.home import Home
from server.console.jobs import Job, JobEnded, JobNotFound, Jobs
from server.errors import Refused
from tests.records import make_run
from tests.waiting import eventually


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")


@pytest.fixture
def jobs(home: Home) -> Jobs:
    return Jobs(home)


def ended(job: Job) -> bool:
    return eventually(lambda: job.state() != "running")


def test_a_disk_without_room_starts_nothing(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused with what to do, and no process is left that nobody could find again."""
    begun: list[subprocess.Popen[bytes]] = []
    process = Jobs._process

    def noted(*arguments: Any) -> subprocess.Popen[bytes]:
        begun.append(process(*arguments))
        return begun[-1]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Jobs, "_process", noted)
    monkeypatch.setattr("server.console.jobs.replace_file", full)
    with pytest.raises(Refused, match=r"No space left on device\. Nothing has begun") as refused:
        jobs.start("prepare", "none", ["data", "list"])
    assert refused.value.problem.status == 503
    assert [one.returncode for one in begun] == [-signal.SIGKILL]
    assert jobs.all() == []


def test_a_job_that_ends_well_is_complete(jobs: Jobs) -> None:
    """Its output is kept, and whoever comes later reads the same from the disk."""
    job = jobs.start("prepare", "none", ["data", "list"])

    assert ended(job)
    assert job.state() == "completed"
    assert "No dataset yet" in job.output()
    assert job.error() is None
    (again,) = Jobs(jobs._home).all()
    assert (again.id, again.state(), again.record().subject) == (job.id, "completed", "none")


def test_a_refusal_is_the_jobs_error(jobs: Jobs) -> None:
    """In the command's own words, without what else it wrote."""
    job = jobs.start("prepare", "x", ["data", "show", "x"])

    assert ended(job)
    assert job.state() == "failed"
    assert (job.error() or "").startswith("No dataset is called 'x'.")


def test_wrong_usage_is_its_error_too(jobs: Jobs) -> None:
    """Exit code 2; the usage before it is left out."""
    job = jobs.start("prepare", "x", ["data", "--nonsense"])

    assert ended(job)
    assert job.error() == "No such option '--nonsense'."


def test_a_job_runs_apart_from_who_started_it(jobs: Jobs, home: Home) -> None:
    """In a session of its own, found by another server, and told from a process that died."""
    run = make_run(home.runs, state="running")
    with run.held():
        job = jobs.start("train", "bot", ["runs", "watch", run.id])
        pid = job.record().pid
        assert Jobs(home).get(job.id).state() == "running"
        assert os.getsid(pid) == pid != os.getsid(0)

        os.kill(pid, signal.SIGKILL)

        assert ended(job)
        assert (job.state(), job.error()) == ("failed", "It ended without a word.")


def test_a_cancelled_job_ends_and_says_so(jobs: Jobs, home: Home) -> None:
    """Its process is told by its id; whoever looks later sees the same, and it ends only once."""
    run = make_run(home.runs, state="running")
    with run.held():
        job = jobs.start("train", "bot", ["runs", "watch", run.id])
        assert not job.is_asked_to_cancel()

        job.cancel()

        assert ended(job)
    (again,) = Jobs(home).all()
    assert (again.state(), again.error(), again.is_asked_to_cancel()) == ("cancelled", None, True)
    with pytest.raises(JobEnded, match="cancelled"):
        again.cancel()


def test_a_cancelled_preparation_leaves_nothing(jobs: Jobs, home: Home, tmp_path: Path) -> None:
    """Neither a dataset nor what was read for one, though the command line alone would keep it."""
    pipe = tmp_path / "endless.jsonl"
    raw = "".join(f'["在 吗 {number}", "在 {number}"]\n' for number in range(200_000))
    pipe.write_text(raw, "utf-8")
    arguments = ["data", "prepare", "--no-keep", "--name=big", str(pipe)]
    job = jobs.start("prepare", "big", arguments)
    assert eventually(lambda: any(home.datasets.glob(".big.*.part/*")))

    job.cancel()

    assert ended(job)
    assert job.state() == "cancelled"
    assert list(home.datasets.iterdir()) == []


def test_a_training_is_known_by_its_process(jobs: Jobs, home: Home) -> None:
    """The run that the job's process made since it began; an older one of that pid is another's."""
    job = jobs.start("train", "bot", ["data", "list"])
    assert ended(job)
    record = job.record()
    make_run(home.runs, pid=record.pid, started=record.started - 60)
    assert jobs.get(job.id).run() is None

    made = make_run(home.runs, pid=record.pid, started=record.started + 1)

    assert jobs.get(job.id).run() == made.id


def test_no_path_is_a_jobs_name(jobs: Jobs) -> None:
    """Ids come from clients."""
    for name in ("..", "../runs", "20260101000000-0000000", ""):
        with pytest.raises(JobNotFound):
            jobs.get(name)
