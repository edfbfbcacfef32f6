"""Whether a run's files are still those that were written."""

from __future__ import annotations

from adapters.storage import FileRefused, sha256_of
from training.runs.checkpoints import newest_first, verified
from training.runs.run import Run


def verify(run: Run) -> dict[str, list[str]]:
    """What is wrong, by checkpoint (newest first) and for the adapter; empty lists: nothing.

    Every file is hashed. The adapter is there where the run has got so far.
    """
    found: dict[str, list[str]] = {}
    for path in newest_first(run.checkpoints):
        problems = []
        try:
            verified(path)
        except (OSError, ValueError) as error:
            problems.append(str(error))
        found[f"checkpoints/{path.name}"] = problems
    published = [event.files for event in run.events() if event.files]
    if published:
        found["adapter"] = _adapter_problems(run, published[-1])
    return found


def _adapter_problems(run: Run, files: dict[str, str]) -> list[str]:
    problems = []
    for name, expected in files.items():
        try:
            if sha256_of(run.adapter / name)[1] != expected:
                problems.append(f"{name} is damaged")
        except FileNotFoundError:
            problems.append(f"{name} is missing")
        except (FileRefused, OSError) as error:
            problems.append(f"{name} {error}")
    return problems
