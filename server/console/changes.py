"""What has changed, on the disk and in what is served, told by cheap signs to pages with lists."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from adapters.home import Home
from adapters.registry import Registry
from server.engine.types import ModelCard
from training.sweeps.lock import is_conducted

Subject = Literal["models", "runs", "jobs", "datasets", "sweeps"]
_FRESH_S = 0.4


class Changes:
    """Signs that differ when models, runs, jobs, datasets or sweeps do; shared by all who ask."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._registry = Registry(home.registry)
        self._looked_s = float("-inf")
        self._signs: dict[Subject, Any] = {}
        self._served: Sequence[ModelCard] = ()

    def see(self, served: Sequence[ModelCard]) -> None:
        """Take note of what the engine serves now, which follows the registry a moment later."""
        self._served = served

    def signs(self) -> dict[Subject, Any]:
        """As they are now, or were a moment ago."""
        if time.monotonic() - self._looked_s > _FRESH_S:
            home = self._home
            self._signs = {
                "models": (
                    self._registry.signature(),
                    tuple(_times(home.evaluations, "*.json")),
                    list(self._served),
                ),
                "runs": tuple(_stamps(home.runs, "status.json", "stop")),
                "jobs": tuple(_stamps(home.jobs, "job.json", "exit", "cancel")),
                "datasets": tuple(_stamps(home.datasets, "manifest.json")),
                "sweeps": (
                    tuple(_stamps(home.sweeps, "sweep.json", "sweep.toml", "stop")),
                    [path for path in home.sweeps.glob("[!.]*/lock") if is_conducted(path.parent)],
                ),
            }
            self._looked_s = time.monotonic()
        return self._signs


def _stamps(root: Path, *names: str) -> Iterator[tuple[str, int]]:
    for name in names:
        yield from _times(root, f"[!.]*/{name}")


def _times(root: Path, pattern: str) -> Iterator[tuple[str, int]]:
    for path in root.glob(pattern):
        try:
            yield f"{path.parent.name}/{path.name}", path.stat().st_mtime_ns
        except OSError:  # gone just now
            continue
