"""What has changed on the disk, told by cheap signs: for pages that show lists of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from adapters.home import Home
from adapters.registry import Registry

Subject = Literal["models", "runs", "jobs", "datasets"]
_FRESH_S = 0.4


class Changes:
    """Signs that differ when models, runs, jobs or datasets do; shared by all who ask."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._registry = Registry(home.registry)
        self._looked_s = float("-inf")
        self._signs: dict[Subject, Any] = {}

    def signs(self) -> dict[Subject, Any]:
        """As they are now, or were a moment ago."""
        if time.monotonic() - self._looked_s > _FRESH_S:
            home = self._home
            self._signs = {
                "models": self._registry.signature(),
                "runs": tuple(_stamps(home.runs, "status.json", "stop")),
                "jobs": tuple(_stamps(home.jobs, "job.json", "exit")),
                "datasets": tuple(_stamps(home.datasets, "manifest.json")),
            }
            self._looked_s = time.monotonic()
        return self._signs


def _stamps(root: Path, *names: str) -> Iterator[tuple[str, int]]:
    for name in names:
        for path in root.glob(f"[!.]*/{name}"):
            try:
                yield f"{path.parent.name}/{name}", path.stat().st_mtime_ns
            except OSError:  # gone just now
                continue
