"""A directory that takes another's place only once it is whole."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A new directory beside ``directory``, which it replaces at the end.

    On any failure it vanishes, and ``directory`` stays as it was.
    """
    staged = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")
    staged.mkdir(parents=True)
    try:
        yield staged
        shutil.rmtree(directory, ignore_errors=True)
        staged.rename(directory)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
