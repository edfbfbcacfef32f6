"""One event of a run: a line of ``events.jsonl``."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

RunState: TypeAlias = Literal["running", "completed", "stopped", "failed", "interrupted"]
Kind: TypeAlias = Literal[
    "status", "train", "evaluation", "samples", "checkpoint", "adapter", "warning", "recomputation"
]


class Sample(msgspec.Struct, frozen=True, gc=False):
    """What the user says, what the model said to it, and what the data has."""

    text: str
    reply: str
    reference: str


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Something that happened, numbered from 1 without a gap. ``time`` is in Unix seconds.

    ``step`` counts finished optimiser steps. By ``kind`` there are besides:

    - ``status``: ``state``, and ``message`` where there is a reason. Each ``running`` is a start or
      a resumption at ``step``; what stands before it about later steps no longer counts.
    - ``train``: means since the last such event (``loss`` in nats per target token), and the
      speed of the steps alone; ``memory_bytes`` is the most that was allocated on the GPU, or
      what the process has in memory.
    - ``evaluation``: ``validation_nll`` in nats per token, and per character.
    - ``samples``: ``replies`` to a few questions of the validation split, and ``scores`` of them by
      the names of ``training.scores.metrics.METRICS``.
    - ``checkpoint``, ``adapter``: what was written to ``path`` (below the run's directory); of the
      adapter, the hex SHA-256 of each file.
    - ``warning``: ``message``.
    - ``recomputation``: from here on the first ``recomputed_layers`` compute their activations
      again for the gradient; ``message`` says why so many.
    """

    seq: int
    time: float
    step: int
    kind: Kind
    state: RunState | None = None
    message: str | None = None
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    tokens_per_s: float | None = None
    dialogues_per_s: float | None = None
    validation_nll: float | None = None
    validation_nll_per_character: float | None = None
    memory_bytes: int | None = None
    scores: dict[str, float] | None = None
    replies: tuple[Sample, ...] | None = None
    recomputed_layers: int | None = None
    path: str | None = None
    files: dict[str, str] | None = None
