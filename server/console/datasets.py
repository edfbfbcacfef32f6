"""Prepared datasets as the console shows them: their manifests, which need no reader of Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from server.wire.datasets import DatasetCard, DatasetList
from training.data.catalogue import known_datasets, read_catalogue
from training.data.manifest import DatasetManifest, read_manifest
from training.errors import DatasetNotFound


def list_datasets(root: Path) -> DatasetList:
    """All below ``root``, the newest first."""
    catalogue = read_catalogue(root)
    found = [_card(name, manifest) for name, manifest in catalogue.datasets.items()]
    found.sort(key=lambda one: one.created, reverse=True)
    return DatasetList(data=found, broken=catalogue.broken)


def find_dataset(root: Path, name: str) -> DatasetCard:
    """The dataset called ``name``.

    Raises:
        DatasetNotFound: there is none.
        DataError: it is damaged.
    """
    known = dataset_names(root)
    if name not in known:
        raise DatasetNotFound(name, known)
    return _card(name, read_manifest(root / name))


def dataset_names(root: Path) -> list[str]:
    """The names of those that are there, damaged ones too."""
    return known_datasets(root)


def _card(name: str, manifest: DatasetManifest) -> DatasetCard:
    values: dict[str, Any] = msgspec.to_builtins(manifest)
    counted = {"dialogues": manifest.dialogues, "characters": manifest.characters}
    return msgspec.convert(values | counted | {"name": name}, DatasetCard, strict=False)
