"""Room on the disk: what a training will need, and what to say when there is none.

A checkpoint holds LoRA's weights in fp32 and the optimiser's state of each; how many lie on the
disk at once follows from the recipe.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from training.errors import NoRoom
from training.optimizer import OPTIMIZERS
from training.planning.plan import Plan
from training.runs import Run
from training.runs.checkpoints import newest_first

WEIGHT_BYTES = 4
FRAMING = 1.05  # names, shapes, random state: a few percent beside the tensors
RECORD_BYTES = 32 * 2**20  # log, status, and what the file system takes for itself
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def checkpoint_bytes(plan: Plan) -> int:
    """The size of one checkpoint, estimated."""
    state = OPTIMIZERS[plan.recipe.training.optimizer].state_bytes
    return int(plan.trainable_parameters * (WEIGHT_BYTES + state) * FRAMING)


def checkpoints_at_once(plan: Plan) -> int:
    """The most that lie on the disk together: those kept, the best, and the one being written."""
    record, steps = plan.pace.recipe.record, plan.total_steps
    saves = steps // record.save_every + steps // record.evaluate_every + 1
    return min(saves, record.keep_checkpoints + 2)


def needed_bytes(plan: Plan) -> int:
    """What a training will take: checkpoints, the adapter, its copy in the registry, the record."""
    adapter = int(plan.trainable_parameters * WEIGHT_BYTES * FRAMING)
    return checkpoints_at_once(plan) * checkpoint_bytes(plan) + 2 * adapter + RECORD_BYTES


def check_room(plan: Plan, place: Path, run: Run | None = None) -> None:
    """Refuse a training for which the disk of ``place`` has no room.

    What the checkpoints of ``run``, which is resumed, take already counts as room.

    Raises:
        NoRoom: it would be full before the end.
    """
    held = _size(run.checkpoints) if run else 0
    free = shutil.disk_usage(_existing(place)).free
    if free + held < (needed := needed_bytes(plan)):
        raise NoRoom(
            f"The training will need about {megabytes(needed - held)} on the disk of {place}: "
            f"{checkpoints_at_once(plan)} checkpoints of {megabytes(checkpoint_bytes(plan))} at "
            f"most, and the adapter. There are {megabytes(free)} free. Make room, lower "
            "record.keep_checkpoints or lora.r, or choose another place with --home."
        )


def no_room(error: OSError, plan: Plan, run: Run) -> NoRoom | None:
    """What to say where ``error`` means that the disk is full; ``None`` where it means another."""
    if error.errno not in _NO_ROOM:
        return None
    free = shutil.disk_usage(run.directory).free
    newest = next(iter(newest_first(run.checkpoints)), None)
    kept = (
        f"The newest checkpoint, {newest.name}, is kept" if newest else "No checkpoint is there yet"
    )
    return NoRoom(
        f"The disk of {run.directory} is full ({error}). A checkpoint takes about "
        f"{megabytes(checkpoint_bytes(plan))}, {megabytes(free)} are free. "
        f"{kept}; make room, then go on with `lccc-admin train --resume {run.id}`."
    )


def megabytes(size: int) -> str:
    """A size as a person reads it."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"  # noqa: PLR2004 - 1 MB


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _existing(place: Path) -> Path:
    return next(path for path in (place, *place.parents) if path.exists())
