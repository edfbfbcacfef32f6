"""Checkpoints that are complete or absent: staged, hashed, renamed, and verified before use.

What one consists of, and whether it is whole, says :mod:`training.runs.checkpoints`. Only
directories of the run itself are read.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from adapters.storage import sha256_of
from training.runs.checkpoints import (
    MANIFEST,
    STATE,
    WEIGHTS,
    CheckpointManifest,
    newest_first,
    step_of,
    verified,
)


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
            files={name: sha256_of(staged / name)[1] for name in (WEIGHTS, STATE)},
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
    for path in newest_first(root):
        try:
            return Checkpoint(path, verified(path)), problems
        except (OSError, ValueError) as error:
            problems.append(f"{path.name}: {error}")
    return None, problems


def weights_at(root: Path, step: int) -> dict[str, torch.Tensor]:
    """LoRA's verified weights of ``step``, whatever became of the rest of that checkpoint.

    Raises:
        OSError, ValueError: they are gone or damaged.
    """
    path = root / f"step-{step}"
    return Checkpoint(path, verified(path, [WEIGHTS])).weights()


def set_aside_after(root: Path, step: int) -> None:
    """Take checkpoints newer than ``step`` out of the count, without deleting them."""
    for path in root.glob("step-*"):
        if step_of(path) > step:
            path.rename(root / f"damaged-{path.name}-{secrets.token_hex(2)}")


def prune_checkpoints(root: Path, keep: int, best_step: int | None) -> None:
    """Remove all but the ``keep`` newest and the best."""
    by_age = newest_first(root)
    for path in by_age[keep:]:
        if step_of(path) != best_step:
            shutil.rmtree(path, ignore_errors=True)
    for leftover in root.glob(".staged-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
