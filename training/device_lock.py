"""One training a GPU: a lock for the whole machine, which the kernel releases with its holder."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import DeviceBusy

if TYPE_CHECKING:
    import torch


@contextmanager
def device_held(device: torch.device, directory: Path | None = None) -> Iterator[None]:
    """Be the one training on ``device``; on a CPU any number may run beside each other.

    Raises:
        DeviceBusy: another training is on it, of whatever home and user.
    """
    if device.type != "cuda":
        yield
        return
    import torch

    uuid = torch.cuda.get_device_properties(device).uuid
    name = torch.cuda.get_device_name(device)
    with lock_held(directory or Path(tempfile.gettempdir()), str(uuid), name):
        yield


@contextmanager
def lock_held(directory: Path, device_id: str, name: str) -> Iterator[None]:
    """Hold the lock of the device ``device_id``, called ``name``; who holds it stands in the file.

    Raises:
        DeviceBusy: another process does.
    """
    path = directory / f"lccc-chat-{device_id}.lock"
    handle = _open(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DeviceBusy(name, os.pread(handle, 32, 0).decode(errors="replace")) from None
        with suppress(OSError):  # another user's file: the lock holds all the same
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    """The lock file, made if it is missing; one that another user made can be locked as well."""
    shared = os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileExistsError):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | shared, 0o644)
    try:
        return os.open(path, os.O_RDWR | shared)
    except PermissionError:
        return os.open(path, os.O_RDONLY | shared)
