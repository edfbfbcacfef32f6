"""Where everything lies on disk: the layout below ``$LCCC_HOME``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec


class Home(msgspec.Struct, frozen=True):
    """The directory of all that is kept: bases, datasets, runs, sweeps, adapters, keys, jobs."""

    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Home:
        """``$LCCC_HOME``, else the platform's user data directory."""
        chosen = (os.environ if environment is None else environment).get("LCCC_HOME")
        if chosen:
            return cls(Path(chosen).expanduser().absolute())
        import platformdirs

        return cls(platformdirs.user_data_path("lccc-chat", appauthor=False))

    @property
    def bases(self) -> Path:
        return self.root / "bases"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def sweeps(self) -> Path:
        return self.root / "sweeps"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def evaluations(self) -> Path:
        return self.root / "evaluations"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"
