"""How a training that breaks off ends: written down first, then said with a way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from training.errors import TrainingFailed
from training.execution.journal import Journal
from training.memory import is_out_of_memory
from training.nn.model import training_device
from training.planning.advice import gpu_memory, memory_advice
from training.planning.plan import Plan
from training.planning.space import no_room


@contextmanager
def recorded(journal: Journal, plan: Plan) -> Iterator[None]:
    """Whatever breaks the training is written into its record before it goes on upwards.

    Raises:
        TrainingFailed: memory or disk were not enough, or a file could not be read or written; the
            message says how much is needed or what to change.
    """
    try:
        yield
    except KeyboardInterrupt:
        journal.end("interrupted")
        raise
    except BaseException as error:
        expected = _expected(error, journal, plan)
        told = expected or error
        journal.end("failed", str(told) or type(told).__name__)
        if expected is None:
            raise
        raise expected from error


def _expected(error: BaseException, journal: Journal, plan: Plan) -> TrainingFailed | None:
    """What to say of an error that is no bug."""
    if is_out_of_memory(error):
        advice = memory_advice(plan, journal.status.step, gpu_memory(training_device()))
        return TrainingFailed(f"There was not enough memory. {advice} ({error})")
    if isinstance(error, OSError):
        kept = f"What it has is kept in {journal.run.directory}."
        return no_room(error, plan, journal.run) or TrainingFailed(
            f"A file could not be read or written: {error}. {kept}"
        )
    return None
