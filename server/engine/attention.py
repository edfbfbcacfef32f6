"""Attention of one step's tokens over the cache, row by row and segment by segment.

Grouped-query heads are packed, never repeated: the queries of a group stand where a kernel expects
several positions (single tokens) or several heads (segments) over one shared key head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it

from server.engine.batch import Batch, Row, Segment


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, batch: Batch
) -> torch.Tensor:
    """Attention output of one layer, [T, heads, head_dim].

    ``queries``: [T, heads, head_dim]. ``keys`` and ``values``: the layer's whole cache,
    [slots, kv_heads, context, head_dim], with this step's already written.
    """
    out = torch.empty_like(queries)
    for index, row in enumerate(batch.rows):
        out[index] = _row(queries[index], keys, values, row)
    for segment in batch.segments:
        place = slice(segment.begin, segment.end)
        out[place] = _segment(queries[place], keys, values, segment)
    return out


def _row(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, row: Row) -> torch.Tensor:
    """[heads, head_dim]: one token looks at all that its row holds."""
    k = keys[row.slot, :, : row.length].unsqueeze(0)
    v = values[row.slot, :, : row.length].unsqueeze(0)
    heads, head_dim = query.shape
    packed = query.view(1, k.shape[1], heads // k.shape[1], head_dim)
    return F.scaled_dot_product_attention(packed, k, v).reshape(heads, head_dim)


def _segment(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, segment: Segment
) -> torch.Tensor:
    """[tokens, heads, head_dim]: each token looks at what precedes it, earlier chunks included."""
    k = keys[segment.slot, :, : segment.length].unsqueeze(1)
    v = values[segment.slot, :, : segment.length].unsqueeze(1)
    count, heads, head_dim = queries.shape
    kv_heads = k.shape[0]
    group = heads // kv_heads
    packed = queries.view(count, kv_heads, group, head_dim).permute(1, 2, 0, 3)
    out = F.scaled_dot_product_attention(
        packed,
        k.expand(-1, group, -1, -1),
        v.expand(-1, group, -1, -1),
        attn_mask=segment.mask,
        is_causal=segment.mask is None,
    )
    return out.permute(2, 0, 1, 3).reshape(count, heads, head_dim)
