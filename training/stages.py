"""How far something is that takes a while and is done in stages; whoever waits is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec


class Stage(msgspec.Struct, frozen=True):
    """``done`` of ``total`` of a stage that is about ``subject``; ``share`` (0 to 1) is of all.

    ``stage`` is its name. Where nobody knows the total it is 0.
    """

    stage: str
    subject: str
    done: int
    total: int
    share: float


# Is told how many of how many are done; or that with a note.
OnProgress = Callable[[int, int], None]
OnNotedProgress = Callable[[int, int, str], None]
OnStage = Callable[[Stage], None]


def unheard(*_: object) -> None:
    """Nobody is told."""


class Stages:
    """Stages by name and subject, in their order, each of which is taken for an equal part."""

    def __init__(self, stages: Sequence[tuple[str, str]], on_stage: OnStage) -> None:
        self._stages = stages
        self._on_stage = on_stage
        self._begun = 0

    def begin(self) -> OnProgress:
        """Begin the next one; what is returned takes (done, total) of it."""
        at = self._begun
        self._begun += 1
        stage, subject = self._stages[at]

        def advance(done: int, total: int) -> None:
            share = (at + (done / total if total else 0.0)) / len(self._stages)
            self._on_stage(Stage(stage, subject, done, total, share))

        advance(0, 0)
        return advance
