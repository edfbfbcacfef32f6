"""Prepared datasets as the console shows them: their manifests, which need no reader of Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from server.wire.datasets import DatasetCard, DatasetList
from training.data.manifest import MANIFEST_FILE, DatasetManifest, read_manifest
from training.errors import DataError, DatasetNotFound


def list_datasets(root: Path) -> DatasetList:
    """All below ``root``, the newest first."""
    found: list[DatasetCard] = []
    broken: dict[str, str] = {}
    for path in sorted(root.glob(f"[!.]*/{MANIFEST_FILE}")):
        try:
            found.append(_card(path.parent, read_manifest(path.parent)))
        except (DataError, OSError) as error:
            broken[path.parent.name] = str(error)
    return DatasetList(data=sorted(found, key=lambda one: one.created, reverse=True), broken=broken)


def find_dataset(root: Path, name: str) -> DatasetCard:
    """The dataset called ``name``.

    Raises:
        DatasetNotFound: there is none.
        DataError: it is damaged.
    """
    known = dataset_names(root)
    if name not in known:
        raise DatasetNotFound(name, known)
    return _card(root / name, read_manifest(root / name))


def dataset_names(root: Path) -> list[str]:
    """The names of those that are there, damaged ones too."""
    return sorted(path.parent.name for path in root.glob(f"[!.]*/{MANIFEST_FILE}"))


def _card(path: Path, manifest: DatasetManifest) -> DatasetCard:
    values: dict[str, Any] = msgspec.to_builtins(manifest)
    counted = {"dialogues": manifest.dialogues, "characters": manifest.characters}
    return msgspec.convert(values | counted | {"name": path.name}, DatasetCard, strict=False)
