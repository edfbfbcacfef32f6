"""The event log: what is written is whole, numbered without gaps, and survives a crash."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import msgspec
import pytest

from training.runs import Event, EventLog
from training.runs.reader import read_events


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def write(path: Path, *steps: int) -> None:
    log = EventLog(path, clock=lambda: 5.0)
    for step in steps:
        log.append("train", step, loss=step / 7)
    log.close()


def test_events_come_back_as_they_were_written(path: Path) -> None:
    """Every field, numbered from 1, with the time of writing."""
    log = EventLog(path, clock=lambda: 5.0)
    log.append("status", 0, state="running", message="started")
    written = log.append("adapter", 9, path="adapter", files={"a": "b"})

    assert written == Event(
        seq=2, time=5.0, step=9, kind="adapter", path="adapter", files={"a": "b"}
    )
    assert read_events(path) == [
        Event(seq=1, time=5.0, step=0, kind="status", state="running", message="started"),
        written,
    ]


def test_a_line_is_json_with_only_what_was_said(path: Path) -> None:
    """For readers in any language: no nulls, and a number that is none becomes null."""
    log = EventLog(path, clock=lambda: 5.0)
    log.append("evaluation", 3, validation_nll=float("nan"))

    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"seq": 1, "time": 5.0, "step": 3, "kind": "evaluation", "validation_nll": None}
    ]


@pytest.mark.parametrize("torn", [b"", b"{", b'{"seq":3,"ti', b"\0\0\0", b"\0\0\n", b'{"seq":3}\n'])
def test_a_log_is_mended_where_it_is_torn(path: Path, torn: bytes) -> None:
    """The next process goes on after the last whole event, with the next number."""
    write(path, 1, 2)
    with path.open("ab") as file:
        file.write(torn)

    write(path, 3)

    assert [(event.seq, event.step) for event in read_events(path)] == [(1, 1), (2, 2), (3, 3)]
    assert path.read_bytes().count(b"\n") == 3


def test_a_log_of_nothing_but_half_a_line_begins_anew(path: Path) -> None:
    """The first write may be the one that was torn."""
    path.write_bytes(b'{"seq":1')

    write(path, 1)

    assert [event.seq for event in read_events(path)] == [1]


def test_mending_looks_no_further_back_than_it_must(path: Path) -> None:
    """Lines longer than a block are found whole, and earlier damage is left as it is."""
    damaged = b"no event\n"
    path.write_bytes(damaged)
    log = EventLog(path)
    log.append("warning", 1, message="x" * 200_000)
    log.close()

    write(path, 2)

    assert [(event.seq, event.step) for event in read_events(path)] == [(1, 1), (2, 2)]


def test_a_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is raised, and the log goes on in a new line with the same number afterwards."""
    log = EventLog(path)
    log.append("train", 1)
    real = os.write
    room = [10]

    def nearly_full(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(file, data[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as full:
        full.setattr(os, "write", nearly_full)
        with pytest.raises(OSError, match="No space left"):
            log.append("train", 2)
    assert path.read_bytes().count(b"\n") == 1
    assert path.read_bytes().endswith(b"\n")
    log.append("train", 3)

    assert [(event.seq, event.step) for event in read_events(path)] == [(1, 1), (2, 3)]


def test_an_unknown_field_is_skipped(path: Path) -> None:
    """A newer version may say more."""
    path.write_bytes(msgspec.json.encode({"seq": 1, "time": 1, "step": 2, "kind": "train", "x": 1}))
    with path.open("ab") as file:
        file.write(b"\n")

    assert read_events(path) == [Event(seq=1, time=1.0, step=2, kind="train")]
