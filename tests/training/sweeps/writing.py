"""Sweep files for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from training.sweeps.definition import Definition, read_sweep

FIELDS = {"lora.r": [4, 8], "training.learning_rate": [1e-3, 1e-2]}


def write(path: Path, fields: dict[str, Any] | None = None, **more: Any) -> Path:
    """A file in ``path`` with ``fields``, and ``more`` at its top."""
    top = {"name": "rank", "data": "small", **more}
    path.write_text(tomli_w.dumps({**top, "fields": FIELDS if fields is None else fields}))
    return path


def sweep(root: Path, fields: dict[str, Any] | None = None, **more: Any) -> Definition:
    """The sweep of such a file."""
    return read_sweep(write(root / "rank.toml", fields, **more))
