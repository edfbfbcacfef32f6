"""Attention of single tokens: from their projection to what they find, in one kernel.

A program takes one token and one key head, with all the heads that share it: these queries, the
token's own key and its value are the lines of one small matrix. It begins early and reads what was
there all along, the first keys and values of the text among it, since earlier steps wrote them.

Where there are too few tokens to fill a GPU, several programs divide the text before a token among
them. Each writes what it found, and the last to arrive adds up what all have, in the order of the
text: so it does not matter which one that is. The token itself belongs to the end of the text, and
nobody reads it from the cache.

Source: Flash-Decoding, the split form of FlashAttention (arXiv 2205.14135).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.engine.cuda.kernels.adapters import RANKS, factors
from server.engine.cuda.kernels.overlap import begin_early, early, overlaps, wait
from server.engine.cuda.kernels.softmax import (
    BLOCK,
    LEAST_ROWS,
    keys_at_once,
    lines_of,
    load_keys,
    load_values,
    scored,
    taken_up,
)
from server.engine.cuda.step import Heads, Share, Split, Step

# How many times :func:`keys_at_once` a program has, at least, before another one helps.
LEAST_ROUNDS = 1
# The parts that a program reads at once when it merges.
MERGED = tl.constexpr(16)
# Elements of a program's heads from which on it has more warps.
WIDE = 1024


@triton.jit
def _rows_of_b(b, rank, width, columns, is_there, start):
    """A tuple of :data:`RANKS` rows of B [rank, width] from ``start`` on, ``columns`` of each.

    Each thread has the same columns of all rows, so that it adds them up alone.
    """
    rows = ()
    for inner in tl.static_range(RANKS):
        at = b + (start + inner) * width + columns
        row = tl.load(at, mask=is_there & (start + inner < rank), other=0.0)
        rows += (row,)  # type: ignore[assignment] # another tuple each time
    return rows


@triton.jit
def _expanded(given, rank, rows, start):
    """The sum of ``rows`` by what ``given`` [lines] points to, from ``start`` on."""
    total = tl.zeros(rows[0].shape, tl.float32)
    for inner in tl.static_range(RANKS):
        factor = tl.load(given + start + inner, mask=start + inner < rank, other=0.0)
        total += factor[:, None] * rows[inner].to(tl.float32)
    return total


@triton.jit
def _turned(x, cosine, sine):
    """Rotary embedding of ``x`` [lines, head_dim]. ``sine``: that of first halves is negative."""
    lines: tl.constexpr = x.shape[0]
    head_dim: tl.constexpr = x.shape[1]
    halves = tl.reshape(x, [lines, 2, head_dim // 2])
    return x * cosine + tl.reshape(tl.flip(halves, 1), [lines, head_dim]) * sine


@triton.jit
def _begun(q, key, is_there, scale):
    """What queries have found that saw the token itself, or nothing: see :func:`taken_up`.

    ``q``: also has the token's key, in line ``key``, and its value in the next.
    """
    line = tl.arange(0, q.shape[0])
    scores = scored(q, tl.trans(q), ((line == key) & is_there)[None, :], scale)
    highest = tl.max(scores, axis=1)
    total = tl.where(is_there, 1.0, 0.0) + tl.zeros(highest.shape, tl.float32)
    is_value = ((line == key + 1) & is_there)[None, :] & (line >= 0)[:, None]
    return highest, total, tl.dot(is_value.to(q.dtype), q, input_precision="ieee")


@triton.jit
def _is_last(arrived, count):
    """Whether this program is the last of ``count`` to store what it found.

    It may read what the others have stored then, and the counter is 0 again.
    """
    tl.debug_barrier()  # all threads have stored theirs before one says so
    before = tl.atomic_add(arrived, 1, sem="acq_rel", scope="gpu")
    tl.debug_barrier()
    is_last = before == count - 1
    tl.store(arrived, 0, mask=is_last)
    return is_last


@triton.jit
def _merge(sums, rest, out, used, group: tl.constexpr, rows: tl.constexpr, head_dim: tl.constexpr):
    """Write what ``group`` heads have found in ``used`` parts of a text, :data:`MERGED` at once.

    Each thread adds up its own columns. What it reads was written by other multiprocessors just
    now: the cache nearest to it may hold what was there before.
    """
    row, dim = tl.arange(0, rows), tl.arange(0, head_dim)
    column = row[:, None] * head_dim + dim[None, :]
    mask = (row < group)[:, None] & (dim >= 0)[None, :]
    highest = tl.full([rows], float("-inf"), tl.float32)
    total = tl.zeros([rows], tl.float32)
    found = tl.zeros([rows, head_dim], tl.float32)
    for first in range(0, used, MERGED):
        read = ()
        higher = highest
        for each in tl.static_range(MERGED):
            line, is_there = (first + each) * group, first + each < used
            own = rest + (line + row) * 2
            has_row = (row < group) & is_there
            peak = tl.load(own, mask=has_row, other=0.0, cache_modifier=".cg")
            peak = tl.where(is_there, peak, float("-inf"))
            higher = tl.maximum(higher, peak)
            weight = tl.load(own + 1, mask=has_row, other=1.0, cache_modifier=".cg")  # a divisor
            at = sums + line * head_dim + column
            part = tl.load(at, mask=mask & is_there, other=0.0, cache_modifier=".cg")
            read += ((peak, weight, part),)  # type: ignore[assignment] # another tuple each time
        shrinking = tl.exp(highest - higher)
        total *= shrinking
        found *= shrinking[:, None]
        for each in tl.static_range(MERGED):
            share = tl.exp(read[each][0] - higher)
            total += read[each][1] * share
            found += read[each][2] * share[:, None]
        highest = higher
    tl.store(out + column, found / total[:, None], mask=mask)


@triton.jit(do_not_specialize=["splits", "least"])
def _attend(
    qkv,
    keys,
    values,
    out,
    sums,
    arrived,
    norm,
    cosines,
    sines,
    positions,
    places,
    token_stride,
    tables,
    table_stride,
    shrunk,
    shrunk_stride,
    addresses,
    ranks,
    stride,
    offset,
    epsilon,
    scale,
    splits,
    least,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    head_dim: tl.constexpr,
    lines: tl.constexpr,
    queries: tl.constexpr,
    size: tl.constexpr,
    rows: tl.constexpr,
    is_split: tl.constexpr,
    has_norm: tl.constexpr,
    has_lora: tl.constexpr,
    overlaps: tl.constexpr,
):
    begin_early(overlaps)
    number, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    group: tl.constexpr = heads // kv_heads
    width: tl.constexpr = (heads + 2 * kv_heads) * head_dim
    position = tl.load(positions + number * token_stride)
    begin, end, used = 0, position, 1
    if is_split:
        share = tl.cdiv(tl.cdiv(position, splits), least) * least
        used = tl.maximum(tl.cdiv(position, tl.maximum(share, 1)), 1)
        begin = split * share
        end = tl.minimum(begin + share, position)
    if (position < 0) | (split >= used):
        wait(overlaps)
        return
    has_new = split == used - 1

    line, dim = tl.arange(0, lines), tl.arange(0, head_dim)
    is_turned = (line <= group)[:, None]
    is_kept = ((line == group) | (line == group + 1)) & has_new
    head = tl.where(
        line < group, kv_head * group + line, heads + kv_head + (line - group) * kv_heads
    )
    column = head[:, None] * head_dim + dim[None, :]
    mask = ((line < group) | is_kept)[:, None] & (dim >= 0)[None, :]
    # For every line by itself: threads need it where they have that line.
    angle = position * head_dim + tl.broadcast_to(dim[None, :], [lines, head_dim])
    cosine = tl.load(cosines + angle, mask=mask & is_turned, other=0.0)
    sine = tl.load(sines + angle, mask=mask & is_turned, other=0.0)
    sine = tl.where((dim < head_dim // 2)[None, :], -sine, sine)
    if has_norm:
        weight = tl.load(norm + column, mask=mask & is_turned, other=0.0).to(tl.float32)
    if has_lora:
        b, rank = factors(number, addresses, ranks, stride, offset, qkv)
        some = _rows_of_b(b, rank, width, column, mask, 0)
    table = tables + number * table_stride
    place = tl.load(places + number * token_stride)
    index = begin + tl.arange(0, size)
    is_there = index < end
    at = lines_of(table, index, is_there, kv_heads, kv_head)
    k = load_keys(keys, at, is_there, head_dim)
    v = load_values(values, at, is_there, head_dim)

    wait(overlaps)
    x = tl.load(qkv + number.to(tl.int64) * width + column, mask=mask, other=0.0).to(tl.float32)
    if has_lora:
        projection = tl.minimum(tl.maximum(line - group + 1, 0), 2)
        given = shrunk + number * shrunk_stride + projection * rank
        x += _expanded(given, rank, some, 0)
        for start in range(RANKS, rank, RANKS):
            more = _rows_of_b(b, rank, width, column, mask, start)
            x += _expanded(given, rank, more, start)
    turned = x
    if has_norm:
        mean = tl.sum(x * x, axis=1) / head_dim
        turned = x * (tl.rsqrt(mean + epsilon)[:, None] * weight)
    turned = _turned(turned, cosine, sine)
    x = tl.where(is_turned, turned, x).to(qkv.dtype.element_ty)
    block = (place // BLOCK).to(tl.int64) * kv_heads + kv_head
    cache = tl.where(line == group, keys, values) + (block * BLOCK + place % BLOCK) * head_dim
    tl.store(cache[:, None] + dim[None, :], x, mask=is_kept[:, None])

    # The token is the first one that its queries see: a program without it begins with nothing.
    x = tl.broadcast_to(x[None, :, :], [queries // lines, lines, head_dim])
    q = tl.reshape(x, [queries, head_dim])
    highest, total, found = _begun(q, group, has_new, scale)
    scores = scored(q, k, is_there[None, :], scale)
    highest, total, found = taken_up(scores, v, highest, total, found)
    if begin + size < end:  # a loop takes its time even if it has no round
        for first in range(begin + size, end, size):
            index = first + tl.arange(0, size)
            is_there = index < end
            at = lines_of(table, index, is_there, kv_heads, kv_head)
            k = load_keys(keys, at, is_there, head_dim)
            v = load_values(values, at, is_there, head_dim)
            scores = scored(q, k, is_there[None, :], scale)
            highest, total, found = taken_up(scores, v, highest, total, found)

    query = tl.arange(0, queries)
    is_query = query < group
    column = query[:, None] * head_dim + dim[None, :]
    pair = number.to(tl.int64) * kv_heads + kv_head
    out += pair * group * head_dim
    if used == 1:
        tl.store(out + column, found / total[:, None], mask=is_query[:, None])
    if is_split and used > 1:
        rest = sums + tl.num_programs(0) * heads * splits * head_dim
        sums += pair * splits * group * head_dim
        rest += pair * splits * group * 2
        own = rest + (split * group + query) * 2
        tl.store(sums + split * group * head_dim + column, found, mask=is_query[:, None])
        tl.store(own, highest, mask=is_query)
        tl.store(own + 1, total, mask=is_query)
        if _is_last(arrived + pair, used):
            _merge(sums, rest, out, used, group, rows, head_dim)


def attend_single(
    qkv: torch.Tensor,
    cache: tuple[torch.Tensor, torch.Tensor],
    step: Step,
    *,
    heads: Heads,
    share: Share | None,
    split: Split | None,
) -> torch.Tensor:
    """Single tokens; see :meth:`server.engine.cuda.step.Kernels.attend`."""
    keys, values = cache
    _, kv_heads, _, head_dim = keys.shape
    group = heads.count // kv_heads
    out = torch.empty((step.count, heads.count * head_dim), dtype=qkv.dtype, device=qkv.device)
    splits, sums, arrived = 1, None, None
    if split is not None:
        splits, arrived = split.programs, split.arrived
        size = step.count * heads.count * splits * (head_dim + 2)
        sums = torch.empty(size, dtype=torch.float32, device=qkv.device)
    lines, rows = triton.next_power_of_2(group + 2), triton.next_power_of_2(group)
    size = keys_at_once(qkv.dtype)
    is_early = overlaps(step)
    _attend[(step.count, kv_heads, splits)](
        qkv,
        keys,
        values,
        out,
        sums,
        arrived,
        heads.norm,
        *heads.angles,
        step.positions,
        step.places,
        step.positions.stride(0),
        step.tables,
        step.tables.stride(0),
        None if share is None else share.shrunk,
        0 if share is None else share.shrunk.stride(0),
        step.addresses,
        step.ranks,
        step.ranks.stride(0),
        0 if share is None else share.offset,
        heads.epsilon,
        head_dim**-0.5,
        splits,
        LEAST_ROUNDS * size,
        heads.count,
        kv_heads,
        head_dim,
        lines,
        max(LEAST_ROWS, lines),
        size,
        rows,
        split is not None,
        heads.norm is not None,
        share is not None,
        is_early,
        num_warps=4 if lines * head_dim < WIDE else 8,
        **early(is_early),
    )
    return out
