"""Sequences and a runner without a model: what it draws depends on all that it should see.

The runner keeps a cache of its own, place by place. It notices a table that leads to what another
text or another adapter has left there, as a model would only show by a slightly worse reply.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from collections.abc import Sequence as Rows
from dataclasses import dataclass

from server.engine.blocks import BLOCK_TOKENS
from server.engine.draw import Drawn
from server.engine.loop import Reading
from server.engine.sequence import Chunk, Sequence
from server.engine.text import Detokenizer, Reply
from server.engine.types import SamplingParams

END = 0


@dataclass(frozen=True)
class Adapter:
    digest: str


def sequence(
    key: int,
    prompt: int | Rows[int] = 3,
    max_tokens: int = 5,
    model: str | None = None,
    priority: int = 0,
) -> Sequence:
    """A new one; a number stands for so many equal tokens."""
    return Sequence(
        key=key,
        tokens=[1] * prompt if isinstance(prompt, int) else list(prompt),
        sampling=SamplingParams(),
        seed=0,
        max_tokens=max_tokens,
        end_tokens=frozenset({END}),
        reply=Reply(Detokenizer([b"", b"x"])),
        adapter=None if model is None else Adapter(model),
        priority=priority,
    )


def states(digest: str | None, tokens: Rows[int]) -> Iterator[int]:
    """After each token, a number that tells the model and everything up to there."""
    state = zlib.crc32(repr(digest).encode())
    for token in tokens:
        state = zlib.crc32(token.to_bytes(4, "little"), state)
        yield state


def drawn(state: int) -> int:
    return END if state % 17 == 0 else 1 + state % 5


def expected_reply(digest: str | None, prompt: Rows[int], max_tokens: int) -> list[int]:
    """What the runner draws for a sequence that is alone and has room."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + max_tokens and END not in tokens[len(prompt) :]:
        *_, last = states(digest, tokens)
        tokens.append(drawn(last))
    return tokens[len(prompt) :]


class ScriptedRunner:
    """Computes steps in ``places``, which hold what was last written there.

    One that ``is_ahead`` has its results read a step later.
    """

    def __init__(self, *, is_ahead: bool = False) -> None:
        self.places: dict[int, int] = {}
        self.computed_tokens = 0
        self.is_ahead = is_ahead
        self._unread: dict[int, int] = {}
        self._tables: dict[Sequence, tuple[int, list[int]]] = {}

    def launch(self, chunks: Rows[Chunk]) -> Reading:
        written: set[int] = set()
        for chunk in chunks:
            self._look_at_table(chunk.sequence)
            seen = list(states(chunk.sequence.digest, self._tokens(chunk)))
            for position in range(chunk.start, chunk.end):
                place = self._place(chunk, position)
                assert place not in written, "two sequences write to the same place"
                written.add(place)
                self.places[place] = seen[position]
            self.computed_tokens += chunk.count
        for chunk in chunks:
            self._look_back(chunk)
        drawn = [(chunk.sequence, self._drawn(chunk)) for chunk in chunks if chunk.is_sampled]
        self._unread = {sequence.key: token for sequence, token in drawn}
        return lambda: [(sequence, Drawn(token)) for sequence, token in drawn]

    def _tokens(self, chunk: Chunk) -> list[int]:
        """All up to its end."""
        known = chunk.sequence.tokens[: chunk.end]
        missing = chunk.end - len(known)
        return [*known, self._unread[chunk.sequence.key]] if missing else known

    def timings(self) -> dict[str, float]:
        return {}

    def _look_at_table(self, sequence: Sequence) -> None:
        """A GPU keeps the table of a revision."""
        table = sequence.revision, sequence.blocks.tolist()
        revision, blocks = self._tables.get(sequence, table)
        assert revision != table[0] or blocks == table[1], "a table changed within its revision"
        self._tables[sequence] = table

    def _look_back(self, chunk: Chunk) -> None:
        seen = states(chunk.sequence.digest, self._tokens(chunk))
        for position, state in enumerate(seen):
            found = self.places.get(self._place(chunk, position))
            assert found == state, f"{chunk.sequence.key} sees what is not its own at {position}"

    def _drawn(self, chunk: Chunk) -> int:
        return drawn(self.places[self._place(chunk, chunk.end - 1)])

    def _place(self, chunk: Chunk, position: int) -> int:
        block = chunk.sequence.blocks[position // BLOCK_TOKENS]
        return block * BLOCK_TOKENS + position % BLOCK_TOKENS
