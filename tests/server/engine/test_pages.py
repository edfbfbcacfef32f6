"""Memory in huge pages: whose it is, where it begins, how long it lives."""

from __future__ import annotations

import gc
import mmap
import sys
from pathlib import Path

import pytest

from server.engine.pages import HUGE_PAGE, LINE, Pages, has_huge_pages, huge_pages, spread


def test_pieces_are_nobody_elses_and_begin_lines() -> None:
    """Of any size, more than was asked for at first too."""
    pages = Pages(1000)
    pieces = [pages.take(size) for size in (1, 64, 65, 500, 3000, 7)]
    for number, piece in enumerate(pieces):
        piece.fill_(number)

    assert [len(piece) for piece in pieces] == [1, 64, 65, 500, 3000, 7]
    assert all(piece.data_ptr() % LINE == 0 for piece in pieces)
    assert all((piece == number).all() for number, piece in enumerate(pieces))


def test_a_piece_outlives_what_gave_it() -> None:
    """Weights are kept, not the pages that they lie in."""
    pages = Pages(4 * HUGE_PAGE)
    piece = pages.take(3 * HUGE_PAGE).fill_(7)
    del pages
    gc.collect()
    others = [huge_pages(4 * HUGE_PAGE).fill_(1) for _ in range(4)]

    assert (piece == 7).all()
    assert all((other == 1).all() for other in others)


@pytest.mark.parametrize("size", [3 * HUGE_PAGE, 3 * HUGE_PAGE + 32768, 1000])
def test_growing_pieces_reach_their_next_pages_in_turn(size: int) -> None:
    """A reply's next token never waits for a page of every layer at once."""
    pieces = spread(8, size)
    for number, piece in enumerate(pieces):
        piece.fill_(number)

    assert all(len(piece) == size and (piece == at).all() for at, piece in enumerate(pieces))
    if size >= HUGE_PAGE:
        begins = sorted(piece.data_ptr() % HUGE_PAGE for piece in pieces)
        assert begins == [begins[0] + number * HUGE_PAGE // 8 for number in range(8)]


@pytest.mark.parametrize("found", ["536870912", "", None])
def test_huge_pages_of_another_size_are_left_alone(
    found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are they asked for where the system says nothing: the memory is there all the same."""
    if found is not None:
        (tmp_path / "size").write_text(found)
    monkeypatch.setattr("server.engine.pages.SIZE_FILE", tmp_path / "size")
    monkeypatch.setattr("mmap.mmap", None)

    assert (huge_pages(2 * HUGE_PAGE).fill_(3) == 3).all()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_many_bytes_lie_in_huge_pages_and_the_rest_does_not() -> None:
    """What is left over is in small pages, or it would take a huge one's memory."""
    if not has_huge_pages():
        pytest.skip("this kernel has none of the usual size")
    piece = huge_pages(3 * HUGE_PAGE + 5 * mmap.PAGESIZE).fill_(1)
    begin = piece.data_ptr()

    assert begin % HUGE_PAGE == 0
    assert advised(begin, begin + len(piece)) == 3 * HUGE_PAGE


def advised(begin: int, end: int) -> int:
    """For how many bytes between two addresses huge pages are asked for: ``hg`` in their flags."""
    found, inside = 0, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split(maxsplit=1)[0]
        if "-" in first:
            low, high = (int(part, 16) for part in first.split("-"))
            inside = max(0, min(high, end) - max(low, begin))
        elif first == "VmFlags:" and " hg" in line:
            found += inside
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_without_memory_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where torch has none left."""

    def refuse(*_: object, **__: object) -> mmap.mmap:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("server.engine.pages.has_huge_pages", lambda: True)
    monkeypatch.setattr("mmap.mmap", refuse)
    with pytest.raises(MemoryError, match="no memory left for 8 MiB"):
        huge_pages(4 * HUGE_PAGE)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_kernel_without_huge_pages_gives_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its refusal is no failure."""
    monkeypatch.setattr("server.engine.pages.has_huge_pages", lambda: True)
    monkeypatch.setattr("mmap.MADV_HUGEPAGE", -1)
    assert (huge_pages(2 * HUGE_PAGE).fill_(3) == 3).all()
