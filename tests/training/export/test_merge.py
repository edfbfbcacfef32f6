"""Where merged bases and exports are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import ExportFailed
from training.export.merge import new_directory


def test_it_is_there_once_it_is_whole(tmp_path: Path) -> None:
    """Not before, and not after a failure."""
    out = tmp_path / "deep" / "out"
    with new_directory(out) as staged:
        (staged / "a").write_text("1")
        assert not out.exists()
    assert (out / "a").read_text() == "1"

    with pytest.raises(ZeroDivisionError), new_directory(tmp_path / "other"):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


@pytest.mark.parametrize("name", [".", "link"])
def test_an_empty_directory_is_filled(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the one that somebody is in, or that a link leads to, which stay what they are."""
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "link").symlink_to(there)
    monkeypatch.chdir(there if name == "." else tmp_path)
    before = there.stat().st_ino

    with new_directory(Path(name)) as staged:
        (staged / "a").write_text("1")
        (staged / "b").mkdir()

    assert sorted(path.name for path in there.iterdir()) == ["a", "b"]
    assert there.stat().st_ino == before
    assert (tmp_path / "link").is_symlink()


def test_what_has_something_in_it_is_left_alone(tmp_path: Path) -> None:
    """A file in it, or a file of that name."""
    (tmp_path / "file").write_text("1")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(ExportFailed, match="new or an empty directory"), new_directory(out):
            pass
