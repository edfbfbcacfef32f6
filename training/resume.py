"""Resuming a run: from which checkpoint, and whether it may go on at all."""

from __future__ import annotations

from collections.abc import Callable

from training.checkpoint import Checkpoint, newest_checkpoint, set_aside_after, weights_at
from training.errors import ResumeRefused
from training.runs import Run


def resumable(run: Run, identity: dict[str, str], note: Callable[[str], None]) -> Checkpoint:
    """The newest usable checkpoint of ``run``; nothing is written when it is refused.

    Damaged newer ones are named to ``note`` and set aside, so that they never count again.

    Raises:
        ResumeRefused: the run goes on elsewhere or is complete, has no usable checkpoint, or
            something of its ``identity`` has changed.
    """
    status = run.status()
    if status.is_active:
        raise ResumeRefused(f"The run {run.id} is still running (process {status.pid}).")
    if status.state == "completed":
        raise ResumeRefused(f"The run {run.id} is complete; there is nothing to resume.")
    checkpoint, problems = newest_checkpoint(run.checkpoints)
    if checkpoint is None:
        damaged = "".join(f"\n  {problem}" for problem in problems)
        raise ResumeRefused(f"The run {run.id} has no usable checkpoint; start anew.{damaged}")
    _refuse_difference(checkpoint.manifest.identity, identity)
    for problem in problems:
        note(f"Skipped a damaged checkpoint: {problem}")
    set_aside_after(run.checkpoints, checkpoint.manifest.step)
    return checkpoint


def best_of(run: Run, last_step: int) -> tuple[int, float] | None:
    """Step and loss of the best validation up to ``last_step`` whose weights are still whole."""
    measured = sorted(
        (metric.validation_nll, metric.step)
        for metric in run.metrics()
        if metric.validation_nll is not None and metric.step <= last_step
    )
    for nll, step in measured:
        try:
            weights_at(run.checkpoints, step)
        except (OSError, ValueError):
            continue
        return step, nll
    return None


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
