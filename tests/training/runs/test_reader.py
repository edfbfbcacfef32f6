"""Reading a log: all of it, what is new, and from a number on."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.runs import Event, EventLog, EventReader
from training.runs.reader import offset_after


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def write(path: Path, *steps: int) -> None:
    log = EventLog(path)
    for step in steps:
        log.append("train", step, message="x" * (step * 37 % 101))
    log.close()


def steps(events: list[Event]) -> list[int]:
    return [event.step for event in events]


def test_each_read_gives_what_is_new(path: Path) -> None:
    """Nothing before the log is there, then every event once."""
    reader = EventReader(path, Event)
    assert reader.read() == []

    write(path, 1, 2)
    assert steps(reader.read()) == [1, 2]
    assert reader.read() == []

    write(path, 3)
    assert steps(reader.read()) == [3]
    assert reader.offset == path.stat().st_size


def test_a_line_that_is_being_written_comes_when_it_is_whole(path: Path) -> None:
    """Half of it is neither given nor lost."""
    write(path, 1, 2)
    whole = path.read_bytes()
    reader = EventReader(path, Event)

    path.write_bytes(whole[:-5])
    assert steps(reader.read()) == [1]
    path.write_bytes(whole)
    assert steps(reader.read()) == [2]


def test_only_new_bytes_are_read(path: Path) -> None:
    """What was read before may even be gone: an update costs what is new."""
    write(path, *range(1, 50))
    reader = EventReader(path, Event)
    reader.read()
    old = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"#" * (old - 1))  # all but the last line's end
    with path.open("ab") as file:
        file.write(b'{"seq":50,"time":1,"step":50,"kind":"train"}\n')

    assert steps(reader.read()) == [50]
    assert reader.unreadable == 0


def test_damaged_lines_are_passed_over_and_counted(path: Path) -> None:
    """Neither damage nor a newer version's kind of event hides the others."""
    write(path, 1)
    with path.open("ab") as file:
        file.write(b'\0\0\n{"seq":2,"time":1,"step":2,"kind":"later"}\n')
        file.write(b'{"seq":3,"time":1,"step":3,"kind":"train"}\n')
    reader = EventReader(path, Event)

    assert steps(reader.read()) == [1, 3]
    assert reader.unreadable == 2


def test_a_reader_comes_back_with_a_number(path: Path) -> None:
    """For every number of a log, what follows it; of a number that is not there yet, the end."""
    write(path, *range(1, 30))

    for seq in range(31):
        reader = EventReader(path, Event, offset_after(path, seq))
        assert steps(reader.read()) == list(range(seq + 1, 30))
    assert offset_after(path.with_name("none"), 3) == 0


def test_coming_back_to_a_torn_log_finds_its_end(path: Path) -> None:
    """What is being written is read when it is whole."""
    write(path, 1, 2)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"seq":3,"ti')

    assert offset_after(path, 2) == size
    assert offset_after(path, 0) == 0
