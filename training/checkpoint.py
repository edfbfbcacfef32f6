"""Checkpoints that are complete or absent: staged, hashed, renamed, and verified before use.

A checkpoint is a directory ``step-<N>`` with LoRA's weights, the optimiser's state, torch's random
state and a manifest with the SHA-256 of each file. Only directories of the run itself are read.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

MANIFEST = "manifest.json"
WEIGHTS = "lora.safetensors"
STATE = "state.pt"


class CheckpointManifest(msgspec.Struct, frozen=True, tag_field="format", tag="lccc-checkpoint/1"):
    """``files`` maps names to hex SHA-256; ``identity`` is what a resumed run must share."""

    step: int
    identity: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint on disk."""

    path: Path
    manifest: CheckpointManifest

    def weights(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load

        return load((self.path / WEIGHTS).read_bytes())

    def state(self) -> dict[str, Any]:
        """Optimiser, scheduler and random state, by tensors and plain values only."""
        return torch.load(self.path / STATE, weights_only=True, map_location="cpu")


def save_checkpoint(
    root: Path,
    *,
    step: int,
    weights: dict[str, torch.Tensor],
    state: dict[str, Any],
    identity: dict[str, str],
) -> Path:
    """Write ``root/step-<step>``: it appears whole or not at all. An older one gives way first.

    Raises:
        OSError: the disk is full or read-only; nothing half-written stays.
    """
    from safetensors.torch import save_file

    staged = root / f".staged-{secrets.token_hex(4)}"
    staged.mkdir(parents=True)
    try:
        save_file(weights, staged / WEIGHTS)
        torch.save(state, staged / STATE)
        manifest = CheckpointManifest(
            step=step,
            identity=identity,
            files={name: _sha256(staged / name) for name in (WEIGHTS, STATE)},
        )
        (staged / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        for path in (*staged.iterdir(), staged):
            _sync(path)
        final = root / f"step-{step}"
        shutil.rmtree(final, ignore_errors=True)
        staged.rename(final)
        _sync(root)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return final


def newest_checkpoint(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that verifies, and what was wrong with newer ones."""
    problems: list[str] = []
    for path in sorted(root.glob("step-*"), key=_step, reverse=True):
        try:
            return Checkpoint(path, _verified(path)), problems
        except (OSError, ValueError) as error:
            problems.append(f"{path.name}: {error}")
    return None, problems


def weights_at(root: Path, step: int) -> dict[str, torch.Tensor]:
    """LoRA's verified weights of ``step``, whatever became of the rest of that checkpoint.

    Raises:
        OSError, ValueError: they are gone or damaged.
    """
    path = root / f"step-{step}"
    return Checkpoint(path, _verified(path, [WEIGHTS])).weights()


def set_aside_after(root: Path, step: int) -> None:
    """Take checkpoints newer than ``step`` out of the count, without deleting them."""
    for path in root.glob("step-*"):
        if _step(path) > step:
            path.rename(root / f"damaged-{path.name}-{secrets.token_hex(2)}")


def prune_checkpoints(root: Path, keep: int, best_step: int | None) -> None:
    """Remove all but the ``keep`` newest and the best."""
    by_age = sorted(root.glob("step-*"), key=_step, reverse=True)
    for path in by_age[keep:]:
        if _step(path) != best_step:
            shutil.rmtree(path, ignore_errors=True)
    for leftover in root.glob(".staged-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _verified(path: Path, names: Iterable[str] = (WEIGHTS, STATE)) -> CheckpointManifest:
    manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=CheckpointManifest)
    for name in names:
        if _sha256(path / name) != manifest.files.get(name):
            raise ValueError(f"{name} is damaged")
    return manifest


def _step(path: Path) -> int:
    number = path.name.removeprefix("step-")
    return int(number) if number.isdigit() else -1


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
