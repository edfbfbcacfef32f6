"""Gives sequences the blocks that their tokens need, and finds what was computed before."""

from __future__ import annotations

from collections.abc import Iterable

from server.engine.blocks import BLOCK_TOKENS, BlockPool, blocks_for
from server.engine.prefix import Link
from server.engine.sequence import Chunk, Sequence


class Pager:
    """Keeps the tables of sequences. Owned by the engine thread.

    Between steps a sequence holds exactly the blocks of its computed tokens. If ``reuses_prefixes``
    the full ones can be found by others; the last, when it leaves, by one whose text goes on there.
    """

    def __init__(self, pool: BlockPool, *, reuses_prefixes: bool) -> None:
        self._pool = pool
        self._reuses_prefixes = reuses_prefixes

    @property
    def available(self) -> int:
        return self._pool.available

    def missing(self, sequence: Sequence) -> int:
        """Blocks that it lacks to compute all its tokens, and one more where it may have one."""
        tokens = min(sequence.length + 1, sequence.most_tokens)
        return blocks_for(tokens) - len(sequence.blocks)

    def reuse(self, sequence: Sequence) -> None:
        """Move on over blocks that others have computed; at least one token is left to compute.

        Not where the logits within them are wanted.
        """
        while self._may_reuse(sequence) and self._is_before_a_block(sequence):
            found = self._pool.find(_link(sequence), _tokens(sequence, len(sequence.blocks)))
            if found is None:
                break
            block, link = found
            sequence.links.append(link)
            _skip(sequence, block, BLOCK_TOKENS)
        if self._may_reuse(sequence) and not sequence.computed % BLOCK_TOKENS:
            self._resume(sequence)

    def _may_reuse(self, sequence: Sequence) -> bool:
        return self._reuses_prefixes and not sequence.unscored

    def _resume(self, sequence: Sequence) -> None:
        """Go on in a block that another has begun with the same tokens and left."""
        start = sequence.computed
        end = min(start + BLOCK_TOKENS, len(sequence.tokens)) - 1
        found = self._pool.resume(_link(sequence), tuple(sequence.tokens[start:end]))
        if found is not None:
            _skip(sequence, *found)

    def is_coming(self, sequence: Sequence, planned: Iterable[Chunk]) -> bool:
        """Tell whether a ``planned`` chunk computes the next block, so that waiting saves it."""
        end = sequence.computed + BLOCK_TOKENS
        return (
            self._may_reuse(sequence)
            and self._is_before_a_block(sequence)
            and any(
                chunk.start < end <= chunk.end
                and chunk.sequence.digest == sequence.digest
                and chunk.sequence.tokens[:end] == sequence.tokens[:end]
                for chunk in planned
            )
        )

    def grow(self, sequence: Sequence, end: int) -> bool:
        """Take the blocks for its tokens up to ``end``; takes none if there are too few."""
        lacking = blocks_for(end) - len(sequence.blocks)
        if lacking > self._pool.available:
            return False
        if lacking > 0:
            sequence.blocks.extend(self._pool.take() for _ in range(lacking))
            sequence.revision += 1
        return True

    def trim(self, sequence: Sequence) -> None:
        """Give up the blocks that its computed tokens do not need."""
        needed = blocks_for(sequence.computed)
        self._pool.release(sequence.blocks[needed:])
        del sequence.blocks[needed:]
        sequence.revision += 1

    def publish(self, sequence: Sequence) -> None:
        """Let others find the blocks that are full since the last call."""
        published, full = len(sequence.links), sequence.known // BLOCK_TOKENS
        if published == full or not self._reuses_prefixes:
            return
        sequence.revision += 1
        for index in range(published, full):
            block, tokens = sequence.blocks[index], _tokens(sequence, index)
            block, link = self._pool.publish(block, _link(sequence), tokens)
            sequence.blocks[index] = block
            sequence.links.append(link)

    def drop(self, sequence: Sequence) -> None:
        """Give up all blocks of a sequence.

        A step that is launched may still write to them, behind what is known; what they are taken
        for next is computed after it.
        """
        full, rest = divmod(sequence.known, BLOCK_TOKENS)
        if self._reuses_prefixes and rest:
            tokens = tuple(sequence.tokens[sequence.known - rest : sequence.known])
            sequence.blocks[full], _ = self._pool.publish(
                sequence.blocks[full], _link(sequence), tokens
            )
        self._pool.release(sequence.blocks)
        del sequence.blocks[:], sequence.links[:]
        sequence.revision += 1

    def restart(self, sequence: Sequence) -> None:
        """Give up all blocks of a sequence whose tokens are to be computed, or found, again."""
        self.drop(sequence)
        sequence.computed = 0
        if not sequence.preemptions:
            sequence.cached_tokens = 0

    def check_integrity(self, running: Iterable[Sequence]) -> None:
        """Assert that tables, holds and links agree."""
        running = list(running)
        self._pool.check_integrity(sequence.blocks for sequence in running)
        for sequence in running:
            needed = blocks_for(sequence.computed)
            assert len(sequence.blocks) == needed, "a table is longer or shorter than its tokens"
            full = sequence.known // BLOCK_TOKENS if self._reuses_prefixes else 0
            assert len(sequence.links) == full, "full blocks are not published"
            assert not any(block in self._pool for block in sequence.blocks[full:]), (
                "a block that is written to can be found"
            )

    def _is_before_a_block(self, sequence: Sequence) -> bool:
        """Whether a whole block follows what is computed, and more than that."""
        at = sequence.computed
        return not at % BLOCK_TOKENS and at + BLOCK_TOKENS < len(sequence.tokens)


def _skip(sequence: Sequence, block: int, tokens: int) -> None:
    """Note that its next ``tokens`` lie in ``block``."""
    sequence.blocks.append(block)
    sequence.revision += 1
    sequence.computed += tokens
    if not sequence.preemptions:
        sequence.cached_tokens += tokens


def _link(sequence: Sequence) -> Link:
    return sequence.links[-1] if sequence.links else sequence.digest


def _tokens(sequence: Sequence, index: int) -> tuple[int, ...]:
    return tuple(sequence.tokens[index * BLOCK_TOKENS : (index + 1) * BLOCK_TOKENS])
