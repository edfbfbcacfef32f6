"""Durable steps on a file system: safe reads of files from strangers, atomic writes, locks.

It knows paths and bytes, not what they mean. Every effect on the disk goes through :class:`Disk`,
one method a step, so that tests can break off after any of them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

BLOCK = 1 << 20
TEMPORARY = ".tmp"
PROBES_S = 1.0  # who looks at a lock takes it together with others, for a moment
# The machine's troubles, which say nothing of a file.
PASSING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO))


class FileRefused(Exception):
    """The file may not be read; the text says why and what to do, without the file's name."""


class Disk:
    """What a writer does to the disk. Each method is one step: it happens, or it raises OSError."""

    def make_directory(self, path: Path, mode: int) -> None:
        path.mkdir(mode)

    def write(self, path: Path, blocks: Iterable[bytes]) -> None:
        """Write a file that must not exist yet."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o644), "wb") as file:
            for block in blocks:
                file.write(block)

    def sync(self, path: Path) -> None:
        """Wait until a file's bytes, or a directory's entries, would survive a power cut."""
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def set_mode(self, path: Path, mode: int) -> None:
        path.chmod(mode)

    def touch(self, path: Path) -> None:
        os.utime(path)

    def rename(self, source: Path, target: Path) -> None:
        """Move a directory to a place that is free; for a file, ``target`` is replaced."""
        source.rename(target)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Remove a directory with all it holds, or a file or link; no link is followed."""
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        path.chmod(0o700)
        shutil.rmtree(path)


def make_directories(disk: Disk, path: Path, mode: int = 0o755) -> None:
    """Make ``path`` and what is missing above it, each durably."""
    if path.is_dir():
        return
    make_directories(disk, path.parent)
    with suppress(FileExistsError):  # another writer was quicker
        disk.make_directory(path, mode)
    disk.sync(path.parent)


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Make ``data`` the content of ``path``; readers and crashes see the old bytes or the new."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}{TEMPORARY}")
    try:
        disk.write(temporary, [data])
        disk.sync(temporary)
        disk.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            disk.unlink(temporary)
        raise
    disk.sync(path.parent)


def open_regular(path: Path, limit: int) -> BinaryIO:
    """Open a regular file of at most ``limit`` bytes for reading, without following a link.

    Raises:
        FileNotFoundError: it is not there.
        FileRefused: it is a link, pipe, device or directory, too large, or unreadable.
        OSError: one of :data:`PASSING`; it may be opened later.
    """
    # O_NONBLOCK: opening a FIFO would otherwise wait for its writer for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in PASSING:
            raise
        if error.errno == errno.ELOOP:
            raise FileRefused("is a symbolic link; copy the directory with `cp -rL`") from None
        raise FileRefused(f"cannot be opened ({error.strerror})") from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise FileRefused("is not a regular file")
    if status.st_size > limit:
        os.close(handle)
        raise FileRefused(f"has {status.st_size:,} bytes; at most {limit:,} are accepted")
    return os.fdopen(handle, "rb")


def blocks(file: BinaryIO, limit: int) -> Iterator[bytes]:
    """The bytes of an open file in blocks; :class:`FileRefused` if it grew beyond ``limit``."""
    left = limit
    while block := file.read(BLOCK):
        left -= len(block)
        if left < 0:
            raise FileRefused(f"grew beyond {limit:,} bytes while it was read")
        yield block


def read_bytes(path: Path, limit: int) -> bytes:
    """The whole file; errors of :func:`open_regular`."""
    with open_regular(path, limit) as file:
        return b"".join(blocks(file, limit))


def sha256_of(path: Path) -> tuple[int, str]:
    """(size in bytes, hex SHA-256) of a regular file; errors of :func:`open_regular`."""
    with open_regular(path, limit=1 << 62) as file:
        digest = hashlib.sha256()
        for block in blocks(file, limit=1 << 62):
            digest.update(block)
        return file.tell(), digest.hexdigest()


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` against every other thread and process; waits for it.

    The kernel releases it when its holder dies.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def directory_in_use(path: Path) -> Iterator[None]:
    """Mark a directory as being written to, for :func:`is_in_use`, until the end or a crash."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def locks_alone(handle: int) -> bool:
    """Lock the open file or directory ``handle`` for this process; false: another has locked it.

    One that only looks (:func:`is_in_use`) may be in the way for a moment.
    """
    patience_ends_s = time.monotonic() + PROBES_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > patience_ends_s:
                return False
            time.sleep(0.01)
        else:
            return True


def is_in_use(path: Path) -> bool:
    """Whether a living process has locked this file or directory.

    Raises:
        FileNotFoundError: there is none.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # two that look do not see each other
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
