"""What the registry no longer needs: unnamed blobs and the remains of writers that died.

Everything here runs under the registry's lock.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from adapters.layout import DIGEST, Layout
from adapters.storage import TEMPORARY, Disk, is_in_use

_ANY_DIGEST = re.compile(rb"(?=([0-9a-f]{64}))")


def collect(layout: Layout, disk: Disk, grace_s: float) -> list[str]:
    """Delete what has been unneeded for ``grace_s`` seconds; the digests of the deleted blobs.

    Raises:
        OSError: something could not be read, and nothing was deleted that it may need; or the
            disk failed.
    """
    keep = _referenced(layout)
    unneeded = [
        blob
        for blob in sorted(layout.blobs.glob("??/*"))
        if DIGEST.fullmatch(blob.name) and blob.name not in keep and _age_s(blob) >= grace_s
    ]
    for blob in unneeded:
        disk.remove_tree(discard(layout, disk, blob))
    _sweep_staging(layout, disk, grace_s)
    for directory in (layout.root, layout.names):
        for path in directory.glob(f".*{TEMPORARY}"):
            disk.unlink(path)
    return [blob.name for blob in unneeded]


def discard(layout: Layout, disk: Disk, blob: Path) -> Path:
    """Take a blob away in one step, so that nobody meets half of one; returns where it went."""
    trash = layout.staging / uuid4().hex
    disk.set_mode(blob, 0o755)  # a directory must be writable to change its parent
    disk.rename(blob, trash)
    disk.sync(blob.parent)
    return trash


def _referenced(layout: Layout) -> set[str]:
    """Every digest that stands anywhere in a record, even in one that cannot be understood."""
    found: set[bytes] = set()
    for path in layout.names.iterdir():
        found.update(_ANY_DIGEST.findall(path.read_bytes()))
    return {digest.decode() for digest in found}


def _sweep_staging(layout: Layout, disk: Disk, grace_s: float) -> None:
    for path in list(layout.staging.iterdir()):
        with suppress(FileNotFoundError):  # its writer may be tidying up, which needs no lock
            if _age_s(path) >= grace_s and not (path.is_dir() and is_in_use(path)):
                disk.remove_tree(path)


def _age_s(path: Path) -> float:
    return time.time() - path.lstat().st_mtime
