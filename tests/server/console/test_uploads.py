"""Uploads: pieces in order, nothing twice, nothing outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.console.uploads import KEPT_S, UploadNotFound, UploadOutOfStep, Uploads, UploadTooLarge


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


def test_pieces_become_the_file_under_its_own_name(uploads: Uploads) -> None:
    """A dataset's manifest says what its input was called."""
    card = uploads.begin("语料 1.json", 6)
    assert uploads.append(card.id, 0, b"abc").received == 3
    with pytest.raises(UploadOutOfStep):
        uploads.path(card.id)
    uploads.append(card.id, 3, b"def")

    path = uploads.path(card.id)
    assert (path.name, path.read_bytes()) == ("语料 1.json", b"abcdef")


@pytest.mark.parametrize(("offset", "piece"), [(0, b"abc"), (4, b"a"), (3, b"defg")])
def test_a_piece_that_does_not_fit_changes_nothing(
    uploads: Uploads, offset: int, piece: bytes
) -> None:
    """Sent twice, with a gap, or beyond the end: it is told where to go on."""
    card = uploads.begin("a.json", 6)
    uploads.append(card.id, 0, b"abc")

    with pytest.raises(UploadOutOfStep) as caught:
        uploads.append(card.id, offset, piece)

    assert caught.value.received == 3
    assert uploads.get(card.id).received == 3


def test_ids_are_no_paths(uploads: Uploads) -> None:
    """They come from clients."""
    uploads.begin("a.json", 1)
    for name in ("..", "../uploads", "0" * 16, ""):
        with pytest.raises(UploadNotFound):
            uploads.get(name)


def test_more_than_the_disk_has_is_refused_first(uploads: Uploads) -> None:
    """Not after an hour of sending."""
    with pytest.raises(UploadTooLarge, match="room"):
        uploads.begin("a.json", 2**60)


def test_old_ones_go(uploads: Uploads, tmp_path: Path) -> None:
    """A day after they were begun, when the next one is."""
    old = uploads.begin("a.json", 1)
    directory = tmp_path / "uploads" / old.id
    then = directory.stat().st_mtime - KEPT_S - 60
    os.utime(directory, (then, then))

    new = uploads.begin("b.json", 1)

    assert uploads.get(new.id)
    with pytest.raises(UploadNotFound):
        uploads.get(old.id)
