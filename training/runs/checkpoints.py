"""Checkpoints on disk as anyone can judge them, without torch.

A checkpoint is a directory ``step-<N>`` with LoRA's weights, the optimiser's state and a manifest
that has the SHA-256 of each file. Written they are by :mod:`training.execution.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from adapters.storage import FileRefused, sha256_of

MANIFEST = "manifest.json"
WEIGHTS = "lora.safetensors"
STATE = "state.pt"


class CheckpointManifest(msgspec.Struct, frozen=True, tag_field="format", tag="lccc-checkpoint/1"):
    """``files`` maps names to hex SHA-256; ``identity`` is what a resumed run must share."""

    step: int
    identity: dict[str, str]
    files: dict[str, str]


def newest_first(root: Path) -> list[Path]:
    """The checkpoints below ``root``, whole or damaged."""
    return sorted(root.glob("step-*"), key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step that a checkpoint's name says; -1 where it says none."""
    number = path.name.removeprefix("step-")
    return int(number) if number.isdigit() else -1


def verified(path: Path, names: Iterable[str] = (WEIGHTS, STATE)) -> CheckpointManifest:
    """The manifest of the checkpoint in ``path``, whose files ``names`` are as it says.

    Raises:
        OSError, ValueError: a file is missing or damaged; the message says which.
    """
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=CheckpointManifest)
    except ValueError as error:
        raise ValueError(f"{MANIFEST} is damaged: {error}") from error
    for name in names:
        try:
            found = sha256_of(path / name)[1]
        except FileNotFoundError:
            raise ValueError(f"{name} is missing") from None
        except FileRefused as error:
            raise ValueError(f"{name} {error}") from error
        if found != manifest.files.get(name):
            raise ValueError(f"{name} is damaged")
    return manifest
