"""The journal: the record comes first, the audience never breaks a training."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.records import make_run
from training.execution.journal import Journal
from training.runs import Event, EventLog, Run


class Audience:
    """Progress that remembers, or of which nothing is left (a closed terminal)."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.is_gone = False

    def began(self, run: Run, plan: object, step: int) -> None:
        self._hear(f"began at {step}")

    def event(self, event: Event) -> None:
        self._hear(event.kind)

    def note(self, message: str) -> None:
        self._hear(message)

    def _hear(self, message: str) -> None:
        if self.is_gone:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        self.heard.append(message)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path, error="before", digest="old")


@pytest.fixture
def audience() -> Audience:
    return Audience()


@pytest.fixture
def journal(run: Run, audience: Audience) -> Iterator[Journal]:
    with run.held():
        opened = Journal(run, run.status(), audience)
        yield opened
        opened.close()


def kinds(run: Run) -> list[str]:
    return [event.kind for event in run.events()]


def test_a_run_is_running_from_the_first_moment(run: Run, journal: Journal) -> None:
    """What it was before no longer stands, and who trains it now does."""
    status = run.status()

    assert (status.state, status.error, status.digest) == ("running", None, None)


def test_everything_is_recorded_and_told(run: Run, journal: Journal, audience: Audience) -> None:
    """In the log of events, in the log for people, and to who watches."""
    journal.began(None, 0)  # type: ignore[arg-type]
    journal.record("train", 1, loss=2.5)
    journal.warn("Careful.")
    journal.end("completed", digest="new")

    assert [(one.kind, one.step) for one in run.events()] == [
        ("status", 0),
        ("train", 1),
        ("warning", 1),
        ("status", 1),
    ]
    assert audience.heard == ["began at 0", "train", "warning"]
    for said in ("started", "train: step 1, loss 2.5", "warning: step 1, message Careful."):
        assert said in run.log_path.read_text()
    assert (run.status().state, run.status().digest) == ("completed", "new")


def test_an_audience_that_is_gone_ends_nothing(
    run: Run, journal: Journal, audience: Audience
) -> None:
    """Hours of training outlive the terminal in which they were started."""
    audience.is_gone = True

    journal.began(None, 0)  # type: ignore[arg-type]
    journal.record("train", 1, loss=2.5)
    journal.note("Hello?")

    assert kinds(run) == ["status", "train"]


def test_signs_of_life_do_not_wear_out_the_disk(
    run: Run, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand steps in a second are one status; a change of state is written at once."""
    written: list[int] = []
    real = Run.write_status

    def counted(self: Run, status: object) -> None:
        written.append(journal.status.step)
        real(self, status)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "write_status", counted)
    monkeypatch.setattr("training.execution.journal.time.monotonic", clock_at(1e6))
    for step in range(1, 1001):
        journal.alive(step)
    journal.end("stopped")

    assert written == [1, 1000]


def clock_at(now_s: float) -> Callable[[], float]:
    return lambda: now_s


def test_a_failure_is_said_as_well_as_the_disk_allows(
    run: Run, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even that can be written, it is the lock that tells; the reason is not replaced."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(EventLog, "append", full)
    monkeypatch.setattr(Run, "write_status", full)
    journal.end("failed", "the reason")

    with pytest.raises(OSError, match="No space"):
        journal.end("completed")
