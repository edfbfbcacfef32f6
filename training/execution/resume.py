"""Resuming a run: from which checkpoint, and whether it may go on at all."""

from __future__ import annotations

from typing import Any

import msgspec

from training.environment import differences, machine
from training.errors import ResumeRefused
from training.execution.checkpoint import Checkpoint, newest_checkpoint, set_aside_after, weights_at
from training.runs import Run


def resumable(run: Run, identity: dict[str, str]) -> tuple[Checkpoint | None, list[str]]:
    """The newest usable checkpoint of ``run``, and what should be said about resuming it.

    ``None``: it died before its first checkpoint, and begins again. The caller holds the run;
    nothing is written when it is refused. Damaged newer checkpoints are set aside, so that they
    never count again.

    Raises:
        ResumeRefused: the run is complete, none of its checkpoints is whole, or something of its
            ``identity`` has changed.
    """
    if run.status().state == "completed":
        raise ResumeRefused(f"The run {run.id} is complete; there is nothing to resume.")
    checkpoint, problems = newest_checkpoint(run.checkpoints)
    if checkpoint is None and problems:
        damaged = "".join(f"\n  {problem}" for problem in problems)
        raise ResumeRefused(f"The run {run.id} has no usable checkpoint; start anew.{damaged}")
    recorded = _recorded(run)
    began_with = checkpoint.manifest.identity if checkpoint else recorded.get("identity", {})
    _refuse_difference(began_with, identity)
    remarks = [f"Skipped a damaged checkpoint: {problem}" for problem in problems]
    if checkpoint is None:
        remarks.append("There is no checkpoint yet; beginning again at step 0.")
    else:
        set_aside_after(run.checkpoints, checkpoint.manifest.step)
    if changed := differences(recorded, machine()):
        remarks.append(f"Resumed with other software or hardware: {'; '.join(changed)}.")
    run.forget_stop()
    return checkpoint, remarks


def best_of(run: Run, last_step: int) -> tuple[int, float] | None:
    """Step and loss of the best validation up to ``last_step`` whose weights are still whole."""
    measured = sorted(
        (event.validation_nll, event.step)
        for event in run.events()
        if event.validation_nll is not None and event.step <= last_step
    )
    for nll, step in measured:
        try:
            weights_at(run.checkpoints, step)
        except (OSError, ValueError):
            continue
        return step, nll
    return None


def _recorded(run: Run) -> dict[str, Any]:
    """What the run was made with.

    Raises:
        ResumeRefused: the record is damaged.
    """
    try:
        found = msgspec.json.decode(run.environment_path.read_bytes(), type=dict[str, Any])
    except (OSError, ValueError) as error:
        raise ResumeRefused(f"{run.environment_path} cannot be read: {error}") from error
    return found


def _refuse_difference(recorded: dict[str, str], current: dict[str, str]) -> None:
    changed = [
        f"  {name}: was {recorded.get(name)!r}, is {current.get(name)!r}"
        for name in sorted({*recorded, *current})
        if recorded.get(name) != current.get(name)
    ]
    if changed:
        listed = "\n".join(changed)
        raise ResumeRefused(
            f"The run cannot be resumed, because this differs from when it began:\n{listed}\n"
            "Put it back, or start a new run without --resume."
        )
