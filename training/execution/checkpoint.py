"""Checkpoints that are complete or absent: staged, hashed, renamed, and verified before use.

What one consists of, and whether it is whole, says :mod:`training.runs.checkpoints`. Only
directories of the run itself are read.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load, save

from adapters.storage import Disk
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
    contents = {WEIGHTS: save(weights), STATE: _encoded(state)}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest = CheckpointManifest(step=step, identity=identity, files=hashes)
    contents[MANIFEST] = msgspec.json.format(msgspec.json.encode(manifest))
    staged, final = root / f".staged-{secrets.token_hex(4)}", root / f"step-{step}"
    disk = Disk()
    staged.mkdir(parents=True)
    try:
        for name, content in contents.items():
            disk.write(staged / name, [content])
            disk.sync(staged / name)
        disk.sync(staged)
        shutil.rmtree(final, ignore_errors=True)
        disk.rename(staged, final)
        disk.sync(root)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return final


def _encoded(state: dict[str, Any]) -> bytes:
    """As :func:`torch.save` writes it, but to memory: it does not say why a disk refuses it."""
    held = io.BytesIO()
    torch.save(state, held)
    return held.getvalue()


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
