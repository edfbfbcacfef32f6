"""Atomic writes, locks and careful reads, each against the real file system."""

from __future__ import annotations

import fcntl
import hashlib
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.storage import (
    Disk,
    FileRefused,
    blocks,
    directory_in_use,
    exclusive_lock,
    is_in_use,
    make_directories,
    open_regular,
    read_bytes,
    replace_file,
    sha256_of,
)
from tests.adapters.disks import FullDisk, QuickDisk


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


@contextmanager
def file_descriptors(most: int) -> Iterator[None]:
    """New ones only below ``most`` while the block runs."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class TestReplaceFile:
    def test_the_file_has_the_new_bytes_and_nothing_else_is_there(self, tmp_path: Path):
        """Over an old file or none."""
        for data in (b"old", b"new"):
            replace_file(Disk(), tmp_path / "file", data)
            assert (tmp_path / "file").read_bytes() == data
        assert names_in(tmp_path) == ["file"]

    def test_a_reader_keeps_the_file_it_opened(self, tmp_path: Path):
        """The old bytes are not overwritten in place."""
        path = tmp_path / "file"
        replace_file(Disk(), path, b"old")
        with path.open("rb") as file:
            replace_file(Disk(), path, b"new")
            assert file.read() == b"old"

    @pytest.mark.parametrize("failing", [0, 1, 2])
    def test_a_failure_leaves_the_old_file_alone(self, tmp_path: Path, failing: int):
        """Writing, syncing or renaming: the old bytes stay and no temporary does."""
        replace_file(QuickDisk(), tmp_path / "file", b"old")
        with pytest.raises(OSError, match="No space left"):
            replace_file(FullDisk(failing), tmp_path / "file", b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
        assert names_in(tmp_path) == ["file"]


class TestDisk:
    def test_write_never_overwrites_or_follows(self, tmp_path: Path):
        """A file or link in the way is an error."""
        (tmp_path / "file").write_bytes(b"mine")
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        for name in ("file", "link"):
            with pytest.raises(FileExistsError):
                Disk().write(tmp_path / name, [b"x"])
        assert (tmp_path / "file").read_bytes() == b"mine"
        assert not (tmp_path / "nowhere").exists()

    def test_remove_tree_removes_read_only_directories_and_links_but_no_targets(
        self, tmp_path: Path
    ):
        """Only what lies inside goes."""
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "file").write_bytes(b"")
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "link").symlink_to(tmp_path / "mine")
        (tree / "file").write_bytes(b"")
        tree.chmod(0o555)
        Disk().remove_tree(tree)
        (tmp_path / "link").symlink_to(tmp_path / "mine")
        Disk().remove_tree(tmp_path / "link")
        assert names_in(tmp_path) == ["mine"]
        assert names_in(tmp_path / "mine") == ["file"]

    def test_make_directories_makes_what_is_missing(self, tmp_path: Path):
        """All of a path; the mode is that of the last."""
        make_directories(Disk(), tmp_path / "a" / "b" / "c", 0o700)
        make_directories(Disk(), tmp_path / "a" / "b" / "c", 0o700)
        assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "a").stat().st_mode & 0o700 == 0o700


class TestReading:
    def test_a_regular_file_is_read_whole(self, tmp_path: Path):
        """Also one of several blocks; size and hash are those of its bytes."""
        data = os.urandom((2 << 20) + 7)
        (tmp_path / "file").write_bytes(data)
        assert read_bytes(tmp_path / "file", len(data)) == data
        expected = (len(data), hashlib.sha256(data).hexdigest())
        assert sha256_of(tmp_path / "file") == expected

    def test_one_byte_over_the_limit_is_refused(self, tmp_path: Path):
        """By the size it has."""
        (tmp_path / "file").write_bytes(b"1234")
        with pytest.raises(FileRefused, match="has 4 bytes; at most 3 are accepted"):
            read_bytes(tmp_path / "file", 3)

    def test_a_file_that_grows_while_it_is_read_is_refused(self, tmp_path: Path):
        """The limit holds for the bytes read, not only for the size at the beginning."""
        path = tmp_path / "file"
        path.write_bytes(b"x" * (1 << 20))
        with open_regular(path, 1 << 20) as file:
            reading = blocks(file, 1 << 20)
            assert len(next(reading)) == 1 << 20
            with path.open("ab") as growing:
                growing.write(b"y")
            with pytest.raises(FileRefused, match="grew beyond 1,048,576 bytes"):
                next(reading)

    def test_a_lack_of_file_descriptors_says_nothing_of_the_file(self, tmp_path: Path):
        """It is the kernel's own error, which others take for passing, and no refusal."""
        (tmp_path / "file").write_bytes(b"1234")
        with file_descriptors(0), pytest.raises(OSError, match="Too many open files"):
            read_bytes(tmp_path / "file", 4)
        assert read_bytes(tmp_path / "file", 4) == b"1234"

    def test_devices_are_refused(self):
        """An endless file is no file."""
        with pytest.raises(FileRefused, match="is not a regular file"):
            read_bytes(Path("/dev/zero"), 10)

    def test_a_missing_file_is_missing(self, tmp_path: Path):
        """Callers tell it apart from a refusal."""
        with pytest.raises(FileNotFoundError):
            read_bytes(tmp_path / "file", 10)


class TestLocks:
    def test_only_one_thread_holds_a_lock(self, tmp_path: Path):
        """The second goes on when the first is done."""
        order: list[str] = []

        def second() -> None:
            with exclusive_lock(tmp_path / "lock"):
                order.append("second")

        waiting = threading.Thread(target=second)
        with exclusive_lock(tmp_path / "lock"):
            waiting.start()
            waiting.join(timeout=0.2)  # long enough to get it, if nothing held it
            order.append("first")
        waiting.join()
        assert order == ["first", "second"]

    def test_a_dead_process_holds_no_lock(self, tmp_path: Path):
        """Neither the file nor the directory stays locked when its holder is killed."""
        (tmp_path / "staging").mkdir()
        code = (
            "import os, signal, sys; from pathlib import Path; from adapters.storage import *\n"
            "where = Path(sys.argv[1])\n"
            "with exclusive_lock(where / 'lock'), directory_in_use(where / 'staging'):\n"
            "    assert is_in_use(where / 'staging')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
        assert killed.returncode == -9
        assert not is_in_use(tmp_path / "staging")
        with exclusive_lock(tmp_path / "lock"):
            pass

    def test_two_that_look_do_not_see_each_other(self, tmp_path: Path) -> None:
        """To look is not to use: else something that has ended would seem to go on."""
        handle = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_SH)  # one that looks just now
        try:
            assert not is_in_use(tmp_path)
        finally:
            os.close(handle)

    def test_a_directory_is_in_use_as_long_as_it_is_held(self, tmp_path: Path):
        """Asking does not take it."""
        assert not is_in_use(tmp_path)
        with directory_in_use(tmp_path):
            assert is_in_use(tmp_path)
            assert is_in_use(tmp_path)
        assert not is_in_use(tmp_path)
