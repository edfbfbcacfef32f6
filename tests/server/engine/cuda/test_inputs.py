"""What is sent for single tokens: rows that only go on get what they would be sent anew."""

from __future__ import annotations

import numpy as np
import torch

from server.engine.blocks import BLOCK_TOKENS
from server.engine.cuda.inputs import SingleTokens
from server.engine.sequence import Chunk, Sequence
from tests.server.engine.scripted import sequence

FIELDS = ("token", "position", "place", "rank", "address", "table")


def a_token_further(rows: list[Sequence], is_first: bool) -> list[Chunk]:
    """A chunk of each, with a block more where it needs one, as the scheduler would have it."""
    for row in rows:
        if not is_first:
            row.computed += 1
        if row.computed // BLOCK_TOKENS == len(row.blocks):
            row.blocks.append(100 + row.computed)
            row.revision += 1
    return [Chunk(row, row.computed, 1) for row in rows]


def sent(singles: SingleTokens, size: int) -> dict[str, list[object]]:
    step = singles.step(size, has_adapters=True)
    columns = (
        step.tokens,
        step.positions,
        step.places,
        step.ranks,
        step.addresses,
        step.tables[:, :4],
    )
    return {name: column.tolist() for name, column in zip(FIELDS, columns, strict=True)}


def test_rows_that_go_on_are_sent_as_if_they_were_new() -> None:
    """Over the ends of blocks, and where a block is exchanged for its double."""
    rows = [sequence(key, prompt=5 + 6 * key) for key in range(3)]
    for row in rows:
        row.computed, row.unread = len(row.tokens), 1
        row.blocks.extend(10 * row.key + at for at in range(-(-row.computed // BLOCK_TOKENS)))
    unread = {row.key: -1 - at for at, row in enumerate(rows)}
    device = torch.device("cpu")
    going, anew = (SingleTokens(4, 64, 8, device) for _ in range(2))
    for step in range(40):
        chunks = a_token_further(rows, is_first=not step)
        if step == 20:
            rows[1].blocks[0] = 77
            rows[1].revision += 1
        if step:
            going.send_next(chunks, 4)
        else:
            going.send(chunks, unread, 4)
        anew.send(chunks, unread, 4)

        assert sent(going, 3) == sent(anew, 3)
        assert np.all(np.array(sent(going, 4)["position"][3:]) == -1)
