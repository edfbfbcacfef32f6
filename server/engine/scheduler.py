"""Which sequences run, and which of their tokens the next step computes.

Running replies get one token in every step; prompts share what the token budget leaves, the most
deserving first, so a long prompt delays its neighbours by one chunk at a time. When the cache is
short, the least deserving loses its blocks and is computed again later.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence as Rows

from server.engine.blocks import BLOCK_TOKENS, BlockPool
from server.engine.pager import Pager
from server.engine.sequence import BY_RANK, Chunk, Sequence
from server.engine.turns import Turns

# At so many positions a step scores prompts: the logits of each are as wide as the vocabulary.
SCORED_TOKENS = 128


class Scheduler:
    """The waiting lines and the running sequences. Owned by the engine thread.

    ``prefill_tokens`` is the most prompt tokens that one step computes, over all sequences, and
    ``guessed_tokens`` the most guesses at replies.
    ``pool`` must hold the longest sequence: then the most deserving one always gets on, and since
    what is deserved never changes, no two can take each other's blocks in turn.
    """

    def __init__(
        self,
        *,
        max_running: int,
        prefill_tokens: int,
        pool: BlockPool,
        reuses_prefixes: bool = True,
        guessed_tokens: int = 0,
    ) -> None:
        self._max_running = max_running
        self._prefill_tokens = prefill_tokens
        self._guessed_tokens = guessed_tokens
        self._pager = Pager(pool, reuses_prefixes=reuses_prefixes)
        self._turns = Turns()
        self._preempted: list[Sequence] = []  # most deserving first; they return before all others
        self._running: dict[int, Sequence] = {}
        self._ranked: list[Sequence] | None = []  # those, most deserving first; None: to be sorted

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._preempted or self._turns)

    @property
    def waiting(self) -> tuple[Sequence, ...]:
        """The pre-empted, then those that never ran, in order of arrival."""
        return (*self._preempted, *self._turns.waiting)

    @property
    def running_count(self) -> int:
        """How many run. Safe in any thread."""
        return len(self._running)

    @property
    def running(self) -> tuple[Sequence, ...]:
        """In order of admission."""
        return tuple(self._running.values())

    def add(self, sequence: Sequence) -> None:
        """Let a new sequence wait for its model's turn."""
        self._turns.add(sequence)

    def find(self, key: int) -> Sequence | None:
        """Return the waiting or running sequence of this key."""
        found = self._running.get(key) or self._turns.find(key)
        return found or next((one for one in self._preempted if one.key == key), None)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, whatever its phase; its blocks are free for the next step."""
        if sequence.key in self._running:
            del self._running[sequence.key]
            self._ranked = None
            self._pager.drop(sequence)
        elif sequence in self._preempted:
            self._preempted.remove(sequence)
        else:
            self._turns.remove(sequence)

    def plan(self) -> list[Chunk]:
        """Admit what fits, and choose the tokens of the next step."""
        self._admit()
        if self._ranked is None:
            self._ranked = sorted(self._running.values(), key=BY_RANK)
        chunks: list[Chunk] = []
        budget, to_score = self._prefill_tokens, SCORED_TOKENS
        for sequence in self._ranked:
            if self._ranked is None and sequence.key not in self._running:
                continue  # pre-empted for one before it
            if _is_plain(sequence):
                chunks.append(Chunk(sequence, sequence.computed, 1))
                continue
            room = min(budget, to_score) if sequence.unscored else budget
            chunk = self._chunk(sequence, room, chunks)
            if chunk is not None:
                chunks.append(chunk)
                budget -= chunk.count if chunk.count > 1 else 0
                to_score -= len(chunk.scored)
        return self._with_guesses(chunks) if self._guessed_tokens else chunks

    def advance(self, chunks: Rows[Chunk]) -> None:
        """Note that ``chunks`` are computed, or will be before anything that is planned later."""
        for chunk in chunks:
            sequence = chunk.sequence
            sequence.computed = end = chunk.known_end
            sequence.unread += chunk.is_sampled
            if chunk.count > 1 or not end % BLOCK_TOKENS:  # else it completes no block
                self._pager.publish(sequence)

    def confirm(self, chunk: Chunk, right: int) -> None:
        """Note that what a chunk drew is read: of its guess ``right`` tokens have come."""
        sequence = chunk.sequence
        sequence.unread -= chunk.is_sampled
        if sequence.guesser is not None:
            sequence.guesser.learn(len(chunk.guess), right)
        if sequence.key not in self._running:
            return
        if chunk.guess:
            sequence.computed = chunk.known_end + right
            self._pager.trim(sequence)
        if chunk.guess or not len(sequence.tokens) % BLOCK_TOKENS:  # else nothing more is known
            self._pager.publish(sequence)

    def forget_unread(self) -> None:
        """Note that what the pre-empted have unread never will be: it is drawn again, the same."""
        for sequence in self._preempted:
            sequence.unread = 0

    # Who runs

    def _admit(self) -> None:
        while len(self._running) < self._max_running:
            sequence = self._preempted[0] if self._preempted else self._turns.first()
            if sequence is None or not self._fits(sequence):
                return
            if self._preempted:
                self._preempted.pop(0)
            else:
                self._turns.take(sequence)
            self._running[sequence.key] = sequence
            self._ranked = None

    def _fits(self, sequence: Sequence) -> bool:
        """Whether all known tokens have room beside those that run; if so it holds what it reuses.

        Nobody is pre-empted for a new one. Alone it always fits.
        """
        self._pager.reuse(sequence)
        promised = sum(self._pager.missing(one) for one in self._running.values())
        if self._pager.missing(sequence) + promised <= self._pager.available:
            return True
        self._pager.restart(sequence)
        return False

    def _preempt(self) -> Sequence:
        """Take all blocks from the least deserving of the running; returns it."""
        victim = max(self._running.values(), key=BY_RANK)
        del self._running[victim.key]
        self._ranked = None
        victim.preemptions += 1
        self._pager.restart(victim)
        insort(self._preempted, victim, key=BY_RANK)
        return victim

    # What is computed

    def _chunk(self, sequence: Sequence, budget: int, planned: list[Chunk]) -> Chunk | None:
        """Its share of the step, with the blocks for it; ``None`` where it has to wait."""
        if sequence.has_to_be_read:
            return None
        self._pager.reuse(sequence)
        count = sequence.pending
        if count > 1:
            count = min(count, budget)
            if not count or self._pager.is_coming(sequence, planned):
                return None
        while not self._pager.grow(sequence, sequence.computed + count):
            if self._preempt() is sequence:
                return None
        return Chunk(sequence, sequence.computed, count, scored=_scored(sequence, count))

    def _with_guesses(self, chunks: list[Chunk]) -> list[Chunk]:
        """The plan with guesses at the replies that go on; nobody is pre-empted for one."""
        budget = self._guessed_tokens
        guessing = []
        for chunk in chunks:
            sequence = chunk.sequence
            guess = sequence.guess(budget) if budget and chunk.is_sampled else ()
            if guess and self._pager.grow(sequence, chunk.end + len(guess)):
                budget -= len(guess)
                count = chunk.count + len(guess)
                chunk = Chunk(sequence, chunk.start, count, guess, chunk.scored)  # noqa: PLW2901 - the same, longer
            guessing.append(chunk)
        return guessing

    def check_integrity(self) -> None:
        """Assert that every sequence is in one place and holds what it should. Between steps."""
        self._turns.check_integrity()
        self._pager.check_integrity(self._running.values())
        waiting = [one.key for one in self.waiting]
        assert len(set(waiting)) == len(waiting), "a sequence waits twice"
        assert not self._running.keys() & set(waiting), "a sequence runs and waits"
        assert len(self._running) <= self._max_running, "more run than may"
        ranked = sorted(self._running.values(), key=BY_RANK)
        assert self._ranked in (None, ranked), "those that run are out of order"
        assert all(not one.blocks and not one.computed for one in self.waiting), "waits with blocks"
        ranks = [one.rank for one in self._preempted]
        assert ranks == sorted(ranks), "the pre-empted are out of order"
        for key, sequence in self._running.items():
            assert key == sequence.key
            assert 0 <= sequence.computed < sequence.length, "nothing left to compute"


def _is_plain(sequence: Sequence) -> bool:
    """Whether one token more is all that it needs: it may be computed, and its block is there."""
    computed = sequence.computed
    return (
        computed % BLOCK_TOKENS > 0
        and len(sequence.tokens) + sequence.unread - computed == 1
        and not (sequence.unread and sequence.has_to_be_read)
    )


def _scored(sequence: Sequence, count: int) -> range:
    """Of the next ``count`` positions, those whose logits are wanted for the prompt."""
    wanted, start = sequence.unscored, sequence.computed
    return range(max(start, wanted.start), min(start + count, wanted.stop))
