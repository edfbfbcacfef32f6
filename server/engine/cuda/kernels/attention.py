"""Attention over the paged cache, and what queries, keys and values go through before.

Single tokens are :mod:`.single`. Of pieces of prompts a program takes one tile and one key head:
the queries of all tokens and of all heads that share those keys are the rows of one small matrix.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.engine.cuda.kernels.heads import prepare_heads
from server.engine.cuda.kernels.single import attend_single
from server.engine.cuda.kernels.softmax import (
    LEAST_ROWS,
    keys_at_once,
    lines_of,
    load_keys,
    load_values,
    scored,
    taken_up,
)
from server.engine.cuda.step import Heads, Share, Split, Step


@triton.jit
def _attend(
    qkv,
    qkv_stride,
    keys,
    values,
    out,
    positions,
    token_stride,
    tables,
    table_stride,
    starts,
    counts,
    rows,
    stride,
    scale,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    queries: tl.constexpr,
    size: tl.constexpr,
):
    number, kv_head = tl.program_id(0), tl.program_id(1)
    group: tl.constexpr = heads // kv_heads
    start = tl.load(starts + number * stride)
    count = tl.load(counts + number * stride)
    if count == 0:
        return
    table = tables + tl.load(rows + number * stride) * table_stride
    query = tl.arange(0, queries)
    token = start + query // group
    head = kv_head * group + query % group
    has_query = query < count * group
    position = tl.load(positions + token * token_stride, mask=has_query, other=-1)
    dim = tl.arange(0, head_dim)
    at = token[:, None].to(tl.int64) * qkv_stride + (head * head_dim)[:, None] + dim[None, :]
    q = tl.load(qkv + at, mask=has_query[:, None], other=0.0)

    length = tl.max(position, axis=0) + 1
    highest = tl.full([queries], float("-inf"), tl.float32)
    total = tl.zeros([queries], tl.float32)
    found = tl.zeros([queries, head_dim], tl.float32)
    for first in range(0, length, size):
        index = first + tl.arange(0, size)
        is_there = index < length
        line = lines_of(table, index, is_there, kv_heads, kv_head)
        k = load_keys(keys, line, is_there, head_dim)
        is_seen = is_there[None, :] & (index[None, :] <= position[:, None])
        scores = scored(q, k, is_seen, scale)
        v = load_values(values, line, is_there, head_dim)
        highest, total, found = taken_up(scores, v, highest, total, found)

    found = found / tl.where(total > 0.0, total, 1.0)[:, None]
    place = (token.to(tl.int64) * heads + head) * head_dim
    tl.store(out + place[:, None] + dim[None, :], found, mask=has_query[:, None])


def attend(
    qkv: torch.Tensor,
    cache: tuple[torch.Tensor, torch.Tensor],
    step: Step,
    *,
    heads: Heads,
    share: Share | None = None,
    split: Split | None = None,
) -> torch.Tensor:
    """See :class:`server.engine.cuda.step.Kernels`."""
    if step.tile == 1:
        return attend_single(qkv, cache, step, heads=heads, share=share, split=split)
    assert split is None
    prepare_heads(qkv, cache, step, heads=heads, share=share)
    keys, values = cache
    _, kv_heads, _, head_dim = keys.shape
    out = torch.empty((step.count, heads.count * head_dim), dtype=qkv.dtype, device=qkv.device)
    _attend[(step.tiles, kv_heads)](
        qkv,
        qkv.stride(0),
        keys,
        values,
        out,
        step.positions,
        step.positions.stride(0),
        step.tables,
        step.tables.stride(0),
        step.starts,
        step.counts,
        step.rows,
        step.ranks.stride(0),
        head_dim**-0.5,
        heads.count,
        kv_heads,
        head_dim,
        max(LEAST_ROWS, triton.next_power_of_2(step.tile * (heads.count // kv_heads))),
        keys_at_once(qkv.dtype),
        num_warps=4,
    )
    return out
