"""From chunks of one token to what the kernels read of them, always at the same addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from server.engine.blocks import BLOCK_TOKENS, blocks_for
from server.engine.cuda.adapter import FlatStack
from server.engine.cuda.records import Records
from server.engine.cuda.step import Step
from server.engine.sequence import Chunk


class SingleTokens:
    """The inputs of steps in which every sequence has one token, at the same addresses each time.

    ``rows`` is the most there can be, ``max_rank`` the largest rank of an adapter.
    """

    def __init__(self, rows: int, context_length: int, max_rank: int, device: torch.device) -> None:
        fields = [("address", "i8", 1)]
        fields += [(name, "i4", 1) for name in ("token", "position", "place", "rank")]
        fields += [("table", "i4", max(2, blocks_for(context_length)))]  # never a scalar
        self._records = Records(fields, rows, device)
        self._columns = {name: self._records.column(name) for name, _, _ in fields}
        self._max_rank = max_rank
        self._revisions: list[int] = []  # of the tables that were sent latest
        self._drawn_by_row = -1 - np.arange(rows, dtype=np.int32)
        self.rows = rows

    def step(self, size: int, *, has_adapters: bool) -> Step:
        """The step of the first ``size`` rows, whatever is sent for them."""
        part = {name: column[:size] for name, column in self._columns.items()}
        unused = part["rank"]  # where every tile is a token, nobody reads where it lies
        return Step(
            tokens=part["token"],
            positions=part["position"],
            places=part["place"],
            tile=1,
            tiles=size,
            starts=unused,
            counts=unused,
            rows=unused,
            ranks=part["rank"],
            addresses=part["address"],
            tables=part["table"],
            max_rank=self._max_rank if has_adapters else 0,
        )

    def send(self, chunks: Sequence[Chunk], unread: Mapping[int, int], size: int) -> None:
        """Send ``chunks``, of one token each, and up to ``size`` rows that are none."""
        count = len(chunks)
        records = self._records.blank()
        if count:
            _fill(records, chunks, unread)
        self._revisions = [chunk.sequence.revision for chunk in chunks]
        nobody = records[count:size]
        nobody["position"] = nobody["place"] = -1
        nobody["token"] = nobody["rank"] = 0
        self._records.send(size)

    def send_next(self, chunks: Sequence[Chunk], size: int) -> None:
        """Send the same rows again, a token further: the one that the step before draws in them."""
        count = len(chunks)
        records = self._records.again(size)
        records["token"][:count] = self._drawn_by_row[:count]
        table = records["table"]
        revisions = [chunk.sequence.revision for chunk in chunks]
        if revisions != self._revisions:
            for row, (new, old) in enumerate(zip(revisions, self._revisions, strict=True)):
                if new != old:
                    blocks = chunks[row].sequence.blocks
                    table[row, : len(blocks)] = blocks
            self._revisions = revisions
        _place(records, chunks, table)
        self._records.send(size)


def _fill(records: NDArray[Any], chunks: Sequence[Chunk], unread: Mapping[int, int]) -> None:
    count = len(chunks)
    stacks = [stack_of(chunk) for chunk in chunks]
    records["address"][:count] = [0 if one is None else one.address for one in stacks]
    records["rank"][:count] = [0 if one is None else one.rank for one in stacks]
    records["token"][:count] = [
        chunk.sequence.tokens[chunk.start]
        if chunk.start < len(chunk.sequence.tokens)
        else unread[chunk.sequence.key]
        for chunk in chunks
    ]
    tables = joined(chunks)
    records["table"][:count, : tables.shape[1]] = tables
    _place(records, chunks, tables)


def _place(records: NDArray[Any], chunks: Sequence[Chunk], tables: NDArray[np.int32]) -> None:
    """Write where the chunks are in their texts, and these, by their ``tables``, in the cache."""
    count = len(chunks)
    starts = np.array([chunk.start for chunk in chunks], np.int32)
    blocks = tables[np.arange(count), starts // BLOCK_TOKENS]
    records["position"][:count] = starts
    records["place"][:count] = blocks * BLOCK_TOKENS + starts % BLOCK_TOKENS


def stack_of(chunk: Chunk) -> FlatStack | None:
    """The factors of its adapter."""
    adapter = chunk.sequence.adapter
    return None if adapter is None else adapter.stack


def joined(chunks: Sequence[Chunk]) -> NDArray[np.int32]:
    """[chunks, blocks]: their tables, filled up with 0."""
    tables = [chunk.sequence.blocks for chunk in chunks]
    width = 4 * max(map(len, tables))
    padded = b"".join([table.tobytes().ljust(width, b"\0") for table in tables])
    return np.frombuffer(padded, np.int32).reshape(len(tables), -1)
