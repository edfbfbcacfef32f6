"""Attention over the paged cache: single tokens and pieces of prompts by the same kernel.

A program takes one tile and one key head: the queries of all tokens and of all heads that share
those keys are the rows of one small matrix. Where there are too few tiles to fill a GPU, several
programs divide the text before a token among them, and :func:`_merge` adds up what they found.

Source: FlashAttention (arXiv 2205.14135) and its split form for decoding, over the blocks of
PagedAttention (arXiv 2309.06180).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.engine.blocks import BLOCK_TOKENS
from server.engine.cuda.kernels.overlap import begin_early, early, overlaps, wait
from server.engine.cuda.step import Step

BLOCK = tl.constexpr(BLOCK_TOKENS)
# The keys that a program looks at together; fp32 products are made without matrix units.
KEYS = {torch.float32: 16}
NARROW_KEYS = 64
# tl.dot needs so many rows.
LEAST_ROWS = 16


@triton.jit
def _attend(
    qkv,
    qkv_stride,
    keys,
    values,
    out,
    sums,
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
    tile: tl.constexpr,
    queries: tl.constexpr,
    size: tl.constexpr,
    splits: tl.constexpr,
    overlaps: tl.constexpr,
):
    begin_early(overlaps)
    number, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    group: tl.constexpr = heads // kv_heads
    if tile == 1:
        start, count, row = number, 1, number
    else:
        start = tl.load(starts + number * stride)
        count = tl.load(counts + number * stride)
        if count == 0:
            return
        row = tl.load(rows + number * stride)
    query = tl.arange(0, queries)
    token = start + query // group
    head = kv_head * group + query % group
    has_query = query < count * group
    position = tl.load(positions + token * token_stride, mask=has_query, other=-1)
    dim = tl.arange(0, head_dim)
    wait(overlaps)
    at = token[:, None].to(tl.int64) * qkv_stride + (head * head_dim)[:, None] + dim[None, :]
    q = tl.load(qkv + at, mask=has_query[:, None], other=0.0)

    length = tl.max(position, axis=0) + 1
    share = tl.cdiv(tl.cdiv(length, splits), size) * size
    end = tl.minimum((split + 1) * share, length)
    highest = tl.full([queries], float("-inf"), tl.float32)
    total = tl.zeros([queries], tl.float32)
    found = tl.zeros([queries, head_dim], tl.float32)
    for first in range(split * share, end, size):
        index = first + tl.arange(0, size)
        is_there = index < end
        block = tl.load(tables + row * table_stride + index // BLOCK, mask=is_there, other=0)
        line = (block.to(tl.int64) * kv_heads + kv_head) * BLOCK + index % BLOCK
        k = tl.load(
            keys + line[None, :] * head_dim + dim[:, None], mask=is_there[None, :], other=0.0
        )
        scores = tl.dot(q, k, input_precision="ieee") * scale
        is_seen = is_there[None, :] & (index[None, :] <= position[:, None])
        scores = tl.where(is_seen, scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        origin = tl.where(higher == float("-inf"), 0.0, higher)  # who sees nothing yet
        weights = tl.exp(scores - origin[:, None])
        shrinking = tl.exp(highest - origin)
        total = total * shrinking + tl.sum(weights, axis=1)
        v = tl.load(
            values + line[:, None] * head_dim + dim[None, :], mask=is_there[:, None], other=0.0
        )
        seen = tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        found = found * shrinking[:, None] + seen
        highest = higher

    line = token.to(tl.int64) * heads + head
    if splits == 1:
        found = found / tl.where(total > 0.0, total, 1.0)[:, None]
        tl.store(out + line[:, None] * head_dim + dim[None, :], found, mask=has_query[:, None])
    else:
        part = line * splits + split
        tl.store(sums + part[:, None] * head_dim + dim[None, :], found, mask=has_query[:, None])
        rest = sums + tl.num_programs(0) * heads * splits * head_dim
        tl.store(rest + part * 2, highest, mask=has_query)
        tl.store(rest + part * 2 + 1, total, mask=has_query)


@triton.jit
def _merge(sums, out, head_dim: tl.constexpr, splits: tl.constexpr, overlaps: tl.constexpr):
    begin_early(overlaps)
    line = tl.program_id(0)
    dim, split = tl.arange(0, head_dim), tl.arange(0, splits)
    part = line * splits + split
    rest = sums + tl.num_programs(0) * splits * head_dim
    wait(overlaps)
    highest, total = tl.load(rest + part * 2), tl.load(rest + part * 2 + 1)
    most = tl.max(highest, axis=0)
    share = tl.exp(highest - tl.where(most == float("-inf"), 0.0, most))
    found = tl.load(sums + part[:, None] * head_dim + dim[None, :])
    whole = tl.sum(total * share, axis=0)
    found = tl.sum(found * share[:, None], axis=0) / tl.where(whole > 0.0, whole, 1.0)
    tl.store(out + line * head_dim + dim, found)


def attend(
    qkv: torch.Tensor,
    cache: tuple[torch.Tensor, torch.Tensor],
    step: Step,
    *,
    heads: int,
    splits: int = 1,
) -> torch.Tensor:
    """See :class:`server.engine.cuda.step.Kernels`."""
    keys, values = cache
    assert splits == 1 or step.tile == 1
    _, kv_heads, _, head_dim = keys.shape
    out = torch.empty((step.count, heads * head_dim), dtype=qkv.dtype, device=qkv.device)
    sums = out
    if splits > 1:
        size = step.count * heads * splits * (head_dim + 2)
        sums = torch.empty(size, dtype=torch.float32, device=qkv.device)
    queries = max(LEAST_ROWS, triton.next_power_of_2(step.tile * (heads // kv_heads)))
    is_early = overlaps(step)
    _attend[(step.tiles, kv_heads, splits)](
        qkv,
        qkv.stride(0),
        keys,
        values,
        out,
        sums,
        step.positions,
        step.positions.stride(0),
        step.tables,
        step.tables.stride(0),
        step.starts,
        step.counts,
        step.rows,
        step.ranks.stride(0),
        head_dim**-0.5,
        heads,
        kv_heads,
        head_dim,
        step.tile,
        queries,
        KEYS.get(qkv.dtype, NARROW_KEYS),
        splits,
        is_early,
        num_warps=4,
        **early(is_early),
    )
    if splits > 1:
        _merge[(step.count * heads,)](sums, out, head_dim, splits, is_early, **early(is_early))
    return out
