"""Who is next: sequences wait in one line for each model, and the models take turns.

A model's first request is served after at most one of every other model that waits, however many
of theirs came before. Every level of priority lets a model go ``HEAD_START`` turns ahead, and a
request that many places in its line, so even the lowest waits for a bounded number of others.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from server.engine.sequence import HEAD_START, Sequence


@dataclass(slots=True)
class Line:
    """The sequences of one model, most deserving first. ``turn`` is when its first one is due."""

    turn: int
    sequences: list[Sequence] = field(default_factory=list)

    @property
    def due(self) -> tuple[int, int]:
        """Orders lines: the lowest is next; of equals, the one whose first came first."""
        first = self.sequences[0]
        return self.turn - HEAD_START * first.priority, first.key


class Turns:
    """The waiting lines, by the digest of the adapter. Owned by the engine thread."""

    def __init__(self) -> None:
        self._lines: dict[str | None, Line] = {}
        self._waiting: dict[int, Sequence] = {}
        self._ahead: dict[str | None, int] = {}  # next turns of models that are not waiting now
        self._now = 0  # the latest turn that was taken

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> tuple[Sequence, ...]:
        """In order of arrival."""
        return tuple(self._waiting.values())

    def find(self, key: int) -> Sequence | None:
        return self._waiting.get(key)

    def add(self, sequence: Sequence) -> None:
        """Let ``sequence`` wait. A model that did not wait gets the present turn, or its next."""
        self._waiting[sequence.key] = sequence
        digest = sequence.digest
        if digest not in self._lines:
            self._lines[digest] = Line(max(self._now, self._ahead.pop(digest, 0)))
        insort(self._lines[digest].sequences, sequence, key=lambda one: one.rank)

    def remove(self, sequence: Sequence) -> None:
        """Forget one that gave up; its model has not used its turn."""
        del self._waiting[sequence.key]
        line = self._lines[sequence.digest]
        line.sequences.remove(sequence)
        if not line.sequences:
            self._leave(sequence.digest)

    def first(self) -> Sequence | None:
        """Whose turn it is."""
        if not self._lines:
            return None
        return min(self._lines.values(), key=lambda line: line.due).sequences[0]

    def take(self, sequence: Sequence) -> None:
        """Serve the :meth:`first`: its model's next turn comes after those of the others."""
        line = self._lines[sequence.digest]
        self._now = max(self._now, line.turn)
        line.turn += 1
        self.remove(sequence)

    def _leave(self, digest: str | None) -> None:
        self._ahead[digest] = self._lines.pop(digest).turn
        self._ahead = {one: turn for one, turn in self._ahead.items() if turn > self._now}

    def check_integrity(self) -> None:
        """Assert that every waiting sequence is in its line, once, in order."""
        for digest, line in self._lines.items():
            assert line.sequences, "a model waits with nothing to do"
            assert all(one.digest == digest for one in line.sequences), "in a stranger's line"
            ranks = [one.rank for one in line.sequences]
            assert ranks == sorted(set(ranks)), "a line is out of order"
        lined = {one.key for line in self._lines.values() for one in line.sequences}
        assert lined == self._waiting.keys(), "waiting, but in no line"
        assert sum(len(line.sequences) for line in self._lines.values()) == len(self._waiting)
        assert not self._ahead.keys() & self._lines.keys(), "a model has two turns"
