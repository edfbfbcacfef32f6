"""What is sent for chunks of any length: as the obvious way has it, at places of the size."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from server.engine.blocks import BLOCK_TOKENS
from server.engine.cuda.pieces import TILE, Pieces, scored_tokens
from server.engine.cuda.step import Step
from server.engine.sequence import Chunk, Sequence
from tests.server.engine.scripted import sequence

ROWS, TOKENS, CONTEXT = 6, 200, 90
UNREAD = {5: -3}
FULL_WORDS = (1 << 40) + 7  # an address takes both


@dataclass(frozen=True)
class Stack:
    address: int
    rank: int


@dataclass(frozen=True)
class Adapter:
    stack: Stack


def text(key: int, draw: random.Random) -> Sequence:
    made = sequence(key, prompt=[draw.randrange(1000) for _ in range(CONTEXT)])
    blocks = draw.sample(range(50), -(-CONTEXT // BLOCK_TOKENS))
    made.blocks.extend(blocks)
    if key % 2:
        made.adapter = Adapter(Stack(FULL_WORDS + key, 3 + key))
    return made


def mixes(draw: random.Random) -> Iterator[list[Chunk]]:
    """Pieces from anywhere, scored ones, last ones with guesses, and an unread token."""
    lengths = (1, 2, 15, 16, 17, 31, 32, 33, 48)
    for _ in range(60):
        chunks = []
        for key in range(draw.randint(1, ROWS - 1)):
            one, count = text(key, draw), draw.choice(lengths)
            start = draw.choice((0, 5, CONTEXT - count))
            scored = range(start, start + count // 2)
            guess = (7, 8) if count > 16 and start + count == CONTEXT else ()
            if guess:
                one.tokens = one.tokens[:-2]
            chunks.append(Chunk(one, start, count, guess, scored if start else range(0)))
        if draw.random() < 0.5:
            last = text(5, draw)
            last.tokens, last.unread = last.tokens[:-1], 1
            chunks.append(Chunk(last, CONTEXT - 1, 1))
        yield sorted(chunks, key=lambda chunk: chunk.count > 1)


@pytest.fixture
def pieces() -> Pieces:
    return Pieces(ROWS, TOKENS, ROWS + 4, CONTEXT, torch.device("cpu"))


def tokens_of(chunk: Chunk) -> list[tuple[int, int, int]]:
    """Token, position and place of each."""
    one = chunk.sequence
    known = [*one.tokens[: chunk.known_end], *chunk.guess, UNREAD.get(one.key, 0)]
    return [
        (known[at], at, one.blocks[at // BLOCK_TOKENS] * BLOCK_TOKENS + at % BLOCK_TOKENS)
        for at in range(chunk.start, chunk.end)
    ]


def tiles_of(chunks: list[Chunk]) -> list[list[int]]:
    """Start, count, row, rank and address of each."""
    found: list[list[int]] = []
    begin = 0
    for row, chunk in enumerate(chunks):
        adapter = chunk.sequence.adapter
        own = (adapter.stack.rank, adapter.stack.address) if adapter else (0, 0)
        found += [
            [begin + first, min(TILE, chunk.count - first), row, *own]
            for first in range(0, chunk.count, TILE)
        ]
        begin += chunk.count
    return found


def rows_of(*columns: torch.Tensor) -> list[list[int]]:
    return torch.stack([column.long() for column in columns], dim=1).tolist()


@pytest.mark.parametrize("is_padded", [True, False])
def test_every_token_and_tile_is_where_the_size_has_it(pieces: Pieces, is_padded: bool) -> None:
    """Whatever was sent before; what is left of the size is no token, and tiles without any."""
    for chunks in mixes(random.Random(is_padded)):
        count = sum(chunk.count for chunk in chunks)
        size = TOKENS if is_padded else count
        pieces.send(chunks, UNREAD, size)
        step = pieces.step(size, max_rank=9)

        expected = [list(token) for chunk in chunks for token in tokens_of(chunk)]
        expected += [[0, -1, -1]] * (size - count)
        assert rows_of(step.tokens, step.positions, step.places) == expected
        tiles = rows_of(step.starts, step.counts, step.rows, step.ranks, step.addresses)
        own = tiles_of(chunks)
        assert tiles == own + [[0] * 5] * (step.tiles - len(own))
        for row, chunk in enumerate(chunks):
            blocks = chunk.sequence.blocks
            assert array("i", step.tables[row, : len(blocks)].tolist()) == blocks


def test_those_to_draw_from_and_to_score_are_found_among_all_tokens(pieces: Pieces) -> None:
    """The last known token and the guesses behind it; draws that are none point to a token too."""
    some = 0
    for chunks in mixes(random.Random(2)):
        pieces.send(chunks, UNREAD, TOKENS)
        whose = [(chunk, at) for chunk in chunks for at in range(chunk.start, chunk.end)]

        drawn = [at for at, (chunk, own) in enumerate(whose) if own in chunk.sampled]
        assert pieces.sampled.tolist() == drawn + [0] * (ROWS + 4 - len(drawn))
        scored = [at for at, (chunk, own) in enumerate(whose) if own in chunk.scored]
        assert scored_tokens(chunks) == scored
        some += bool(scored and drawn)
    assert some


def addresses_of(step: Step) -> list[int]:
    parts = (step.tokens, step.positions, step.places, step.addresses, step.tables)
    return [part.data_ptr() for part in parts]


def test_a_size_has_room_for_any_mix_always_in_the_same_places(pieces: Pieces) -> None:
    """As many single tokens as there can be beside the longest piece; aligned, as kernels want."""
    for size in range(1, TOKENS + 1):
        step = pieces.step(size, max_rank=0)
        for alone in range(min(ROWS, size)):
            assert step.tiles >= alone + -(-(size - alone) // TILE)
        assert len(step.starts) == step.tiles
        assert [address % 16 for address in addresses_of(step)] == [0] * 5
        assert addresses_of(pieces.step(size, max_rank=3)) == addresses_of(step)
