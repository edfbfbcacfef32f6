"""Where things lie below the registry's root, and which names and digests may become paths."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"[0-9a-f]{64}")
_SUFFIX = ".json"


class Layout(msgspec.Struct, frozen=True):
    """The paths of one registry. Nothing becomes part of a path before it matched its pattern."""

    root: Path

    @property
    def names(self) -> Path:
        return self.root / "names"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs" / "sha256"

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def generation(self) -> Path:
        return self.root / "GENERATION"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    def record(self, name: str) -> Path:
        """The record of ``name``, which must have matched :data:`NAME`."""
        if not NAME.fullmatch(name):
            raise ValueError(f"not a name: {name!r}")
        return self.names / f"{name}{_SUFFIX}"

    def blob(self, digest: str) -> Path:
        """The directory of the adapter with this digest (hex SHA-256)."""
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"not a digest: {digest!r}")
        return self.blobs / digest[:2] / digest

    def recorded(self) -> list[str]:
        """What is called ``<name>.json`` among the records, sorted; temporaries left out.

        Raises:
            OSError: the records cannot be listed. A registry that does not exist has none.
        """
        try:
            files = list(self.names.iterdir())
        except FileNotFoundError:
            return []
        return sorted(
            file.name.removesuffix(_SUFFIX)
            for file in files
            if file.name.endswith(_SUFFIX) and not file.name.startswith(".")
        )
