"""Attention of one step's tokens over the paged cache, with torch on any device.

Grouped-query heads are packed, never repeated: the queries of a group stand where a kernel expects
several positions (single tokens) or several heads (segments) over one shared key head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it

from server.engine.batch import Batch, Segment
from server.engine.blocks import BLOCK_TOKENS, blocks_for
from server.engine.cache import KVCache


@dataclass(frozen=True, slots=True)
class Rows:
    """What the single tokens of a step look at: ``tables`` [N, W], all their blocks.

    ``bias``: [1, N, 1, W * BLOCK_TOKENS], 0 where a token may look and -inf where nothing of its
    own lies. ``alien``: [N, W * BLOCK_TOKENS, 1], true there.
    """

    tables: torch.Tensor
    bias: torch.Tensor
    alien: torch.Tensor


@dataclass(frozen=True, slots=True)
class Piece:
    """What one segment looks at: its ``table`` [W], and a ``mask`` for it.

    ``mask``: [tokens, past + tokens], 0 where a token may look and -inf elsewhere; ``None`` where
    nothing precedes, so that plain causality does.
    """

    segment: Segment
    table: torch.Tensor
    mask: torch.Tensor | None


class StepAttention:
    """Where one step's tokens are written, and what they see; made once for all layers."""

    def __init__(self, batch: Batch, cache: KVCache) -> None:
        self._cache = cache
        self._blocks = batch.places // BLOCK_TOKENS
        self._offsets = batch.places % BLOCK_TOKENS
        like = cache.keys[0]
        self._rows = _rows(batch, like) if batch.rows else None
        self._pieces = [_piece(batch, segment, like) for segment in batch.segments]

    def __call__(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """Store keys and values ([T, kv_heads, head_dim]), then attend: [T, heads, head_dim]."""
        all_keys, all_values = self._cache.keys[layer], self._cache.values[layer]
        all_keys[self._blocks, :, self._offsets] = keys
        all_values[self._blocks, :, self._offsets] = values
        out = torch.empty_like(queries)
        if self._rows is not None:
            count = self._rows.tables.shape[0]
            out[:count] = _attend_rows(queries[:count], all_keys, all_values, self._rows)
        for piece in self._pieces:
            place = slice(piece.segment.begin, piece.segment.end)
            out[place] = _attend_piece(queries[place], all_keys, all_values, piece)
        return out


def _rows(batch: Batch, like: torch.Tensor) -> Rows:
    count = len(batch.rows)
    lengths = [past + 1 for past in batch.pasts[:count]]
    tables = batch.tables[:count, : blocks_for(max(lengths))]
    ends = torch.tensor(lengths, device=like.device).unsqueeze(1)
    alien = torch.arange(tables.shape[1] * BLOCK_TOKENS, device=like.device) >= ends
    bias = like.new_zeros(alien.shape).masked_fill_(alien, float("-inf"))
    return Rows(tables, bias.unsqueeze(1).unsqueeze(0), alien.unsqueeze(-1))


def _piece(batch: Batch, segment: Segment, like: torch.Tensor) -> Piece:
    table = batch.tables[segment.chunk, : blocks_for(segment.length)]
    if not segment.past:
        return Piece(segment, table, None)
    count = segment.end - segment.begin
    return Piece(segment, table, causal_mask(segment.past, count, like.dtype, like.device))


def _attend_rows(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: Rows
) -> torch.Tensor:
    """[N, heads, head_dim]: each token looks at all that its own table holds."""
    count, heads, head_dim = queries.shape
    kv_heads = keys.shape[1]
    packed = queries.view(count, kv_heads, heads // kv_heads, head_dim).transpose(0, 1)
    out = F.scaled_dot_product_attention(
        packed, _gathered(keys, rows), _gathered(values, rows), attn_mask=rows.bias
    )
    return out.transpose(0, 1).reshape(count, heads, head_dim)


def _gathered(cache: torch.Tensor, rows: Rows) -> torch.Tensor:
    """[kv_heads, N, W * BLOCK_TOKENS, head_dim]: copies, side by side, zero where nothing lies.

    What others left there may be infinite or no number, which no weight of zero would hide.
    """
    copied = cache.transpose(0, 1)[:, rows.tables].flatten(2, 3)
    return copied.masked_fill_(rows.alien, 0.0)


def _attend_piece(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, piece: Piece
) -> torch.Tensor:
    """[tokens, heads, head_dim]: each token looks at what precedes it, earlier chunks included."""
    count, heads, head_dim = queries.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    packed = queries.view(count, kv_heads, group, head_dim).permute(1, 2, 0, 3)
    out = F.scaled_dot_product_attention(
        packed,
        _contiguous(keys, piece).expand(-1, group, -1, -1),
        _contiguous(values, piece).expand(-1, group, -1, -1),
        attn_mask=piece.mask,
        is_causal=piece.mask is None,
    )
    return out.permute(2, 0, 1, 3).reshape(count, heads, head_dim)


def _contiguous(cache: torch.Tensor, piece: Piece) -> torch.Tensor:
    """[kv_heads, 1, past + tokens, head_dim]: a copy of what the segment's blocks hold."""
    copied = cache[piece.table].transpose(0, 1).flatten(1, 2)
    return copied[:, : piece.segment.length].unsqueeze(1)


def causal_mask(past: int, count: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[count, past + count]: token ``i`` sees everything up to position ``past + i``."""
    mask = torch.full((count, past + count), float("-inf"), dtype=dtype, device=device)
    return mask.triu_(past + 1)
