"""Run records: one directory a training, readable by anyone without torch.

``runs/<id>/`` holds ``status.json`` (replaced whole), ``recipe.toml`` (resolved),
``environment.json`` (inputs by hash, versions, hardware, command), ``events.jsonl`` (appended),
``log.txt``, ``checkpoints/`` and at the end ``adapter/``. The process that trains holds a lock on
the directory and is the only writer; it is asked to stop by the file ``stop``.
"""

from __future__ import annotations

from training.runs.event import Event, Kind, RunState, Sample
from training.runs.history import History
from training.runs.log import EventLog
from training.runs.reader import EventReader
from training.runs.run import Run
from training.runs.status import RunStatus
from training.runs.store import RunStore

__all__ = [
    "Event",
    "EventLog",
    "EventReader",
    "History",
    "Kind",
    "Run",
    "RunState",
    "RunStatus",
    "RunStore",
    "Sample",
]
