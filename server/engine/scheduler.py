"""Which sequences run, and which of their tokens the next step computes.

First come, first served. Running replies get one token in every step; prompts share what the token
budget leaves, oldest first, so a long prompt delays its neighbours by one chunk at a time.
"""

from __future__ import annotations

from collections import deque

from server.engine.sequence import Chunk, Sequence
from server.engine.slots import SlotAllocator


class Scheduler:
    """The waiting line and the running rows. Owned by the engine thread.

    ``prefill_tokens`` is the most prompt tokens that one step computes, over all sequences.
    """

    def __init__(self, *, max_running: int, prefill_tokens: int) -> None:
        self._slots = SlotAllocator(max_running)
        self._prefill_tokens = prefill_tokens
        self._waiting: deque[Sequence] = deque()
        self._running: dict[int, Sequence] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def waiting(self) -> tuple[Sequence, ...]:
        return tuple(self._waiting)

    @property
    def running(self) -> tuple[Sequence, ...]:
        """In order of admission."""
        return tuple(self._running.values())

    def add(self, sequence: Sequence) -> None:
        """Put a new sequence at the end of the waiting line."""
        self._waiting.append(sequence)

    def find(self, key: int) -> Sequence | None:
        """Return the waiting or running sequence of this key."""
        found = self._running.get(key)
        return found or next((one for one in self._waiting if one.key == key), None)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, whatever its phase; its row is free for the next step."""
        if sequence.slot is None:
            self._waiting.remove(sequence)
            return
        del self._running[sequence.key]
        self._slots.give_back(sequence.slot)
        sequence.slot = None

    def plan(self) -> list[Chunk]:
        """Admit what fits, and choose the tokens of the next step."""
        self._admit()
        chunks, budget = [], self._prefill_tokens
        for sequence in self._running.values():
            count = sequence.pending
            if sequence.completion_tokens == 0:  # still in its prompt
                count = min(count, budget)
                budget -= count
            if count:
                chunks.append(Chunk(sequence, sequence.computed, count))
        return chunks

    def advance(self, chunks: list[Chunk]) -> None:
        """Note that ``chunks`` are computed."""
        for chunk in chunks:
            chunk.sequence.computed = chunk.end

    def _admit(self) -> None:
        while self._waiting and self._slots.free:
            sequence = self._waiting.popleft()
            sequence.slot = self._slots.take()
            self._running[sequence.key] = sequence

    def check_integrity(self) -> None:
        """Assert that every taken slot belongs to exactly one running sequence."""
        self._slots.check_integrity()
        held = [sequence.slot for sequence in self._running.values()]
        assert len(set(held)) == len(held), f"two sequences share a slot: {held}"
        assert set(held) == self._slots.taken, f"{held} held, {self._slots.taken} taken"
        assert all(sequence.slot is None for sequence in self._waiting), "a waiting one has a slot"
        for key, sequence in self._running.items():
            assert key == sequence.key
            assert 0 <= sequence.computed < len(sequence.tokens), "nothing left to compute"
