"""The catalogue of prepared datasets: what their manifests say, and which cannot be read."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from training.data.manifest import MANIFEST_FILE, DatasetManifest, read_manifest
from training.errors import DataError

DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Catalogue(msgspec.Struct, frozen=True):
    """Manifests by the names of their directories, sorted; why the others cannot be read."""

    datasets: dict[str, DatasetManifest]
    broken: dict[str, str]


def known_datasets(datasets_root: Path) -> list[str]:
    """The names of the prepared datasets, sorted; damaged ones too."""
    return sorted(
        path.parent.name
        for path in datasets_root.glob(f"*/{MANIFEST_FILE}")
        if DATASET_NAME.fullmatch(path.parent.name)
    )


def read_catalogue(datasets_root: Path) -> Catalogue:
    """The prepared datasets; one that is damaged hides no other."""
    datasets: dict[str, DatasetManifest] = {}
    broken: dict[str, str] = {}
    for name in known_datasets(datasets_root):
        try:
            datasets[name] = read_manifest(datasets_root / name)
        except FileNotFoundError:
            continue  # it was removed meanwhile
        except (DataError, OSError) as error:
            broken[name] = str(error)
    return Catalogue(datasets, broken)
