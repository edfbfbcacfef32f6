"""Choosing a token of each row, in one kernel: penalties, filters and the draw.

It does what :mod:`server.engine.sampling` says, in that order, from the penalties on; a program
takes a row. No vocabulary is sorted. Floats are compared as whole numbers of the same order
(:func:`_key`), so the edge of a filter is found by halving an interval: over the few largest logits
where these are enough, else over all of them. The maxima of blocks of 64 tell where those are.

All passes over the vocabulary work on blocks of 64 that lie within a warp; what concerns the whole
row is done once, behind the pass. Sums are always of the same numbers in the same order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.engine.cuda import step
from server.engine.cuda.step import Rows

SKIPPED, DRAWN = tl.constexpr(step.SKIPPED), tl.constexpr(step.DRAWN)
BLOCK = tl.constexpr(64)
# Blocks that a program works on at once.
BLOCKS = 64
# Top-p looks among so many of the largest first.
LIKELIEST = 512
# How many of the largest there is room for.
ROOM = 4096

_LOWEST = tl.constexpr(-(2**31))


@triton.jit
def _key(x):
    """Whole numbers in the order of the floats ``x``."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _float(key):
    """The float of a key."""
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _at(first, blocks: tl.constexpr):
    """The next ids: [blocks, BLOCK]."""
    inner = tl.arange(0, BLOCK)[None, :]
    return first + tl.arange(0, blocks)[:, None] * BLOCK + inner


@triton.jit
def _whole(x):
    """The sum of all of ``x``."""
    return tl.sum(tl.sum(x, axis=1), axis=0)


@triton.jit
def _count(source, count, least, blocks: tl.constexpr):
    """How many of ``source`` [count] have at least the key ``least``."""
    total = tl.zeros([blocks, BLOCK], tl.int32)
    for first in range(0, count, blocks * BLOCK):
        index = _at(first, blocks)
        x = tl.load(source + index, mask=index < count, other=float("-inf"))
        total += ((_key(x) >= least) & (index < count)).to(tl.int32)
    return _whole(total)


@triton.jit
def _count_equals(source, count, key, blocks: tl.constexpr):
    """How many of ``source`` [count] have just this ``key``."""
    total = tl.zeros([blocks, BLOCK], tl.int32)
    for first in range(0, count, blocks * BLOCK):
        index = _at(first, blocks)
        x = tl.load(source + index, mask=index < count, other=float("-inf"))
        total += ((_key(x) == key) & (index < count)).to(tl.int32)
    return _whole(total)


@triton.jit
def _mass(source, count, least, peak, heat, blocks: tl.constexpr):
    """The weights of those that have at least the key ``least``, together; fp64."""
    total = tl.zeros([blocks, BLOCK], tl.float32)
    for first in range(0, count, blocks * BLOCK):
        index = _at(first, blocks)
        x = tl.load(source + index, mask=index < count, other=float("-inf"))
        total += tl.where(_key(x) >= least, tl.exp((x - peak) / heat), 0.0)
    return _whole(total.to(tl.float64))


@triton.jit
def _edge_of_count(source, count, wanted, low, high, blocks: tl.constexpr):
    """The ``wanted``-th largest key: at least ``low``, below ``high`` (both int64)."""
    while high - low > 1:
        middle = (low + high) >> 1
        if _count(source, count, middle, blocks) >= wanted:
            low = middle
        else:
            high = middle
    return low


@triton.jit
def _edge_of_mass(source, count, wanted, low, high, peak, heat, blocks: tl.constexpr):
    """The largest key such that all from it on have the mass ``wanted``."""
    while high - low > 1:
        middle = (low + high) >> 1
        if _mass(source, count, middle, peak, heat, blocks) >= wanted:
            low = middle
        else:
            high = middle
    return low


@triton.jit
def _end_of_equals(source, count, key, wanted, blocks: tl.constexpr):
    """Below which id there are ``wanted`` tokens of just this ``key``."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) >> 1
        if _count_equals(source, middle, key, blocks) >= wanted:
            high = middle
        else:
            low = middle
    return high


@triton.jit
def _gather_largest(
    source, count, least, into, room, counts, all_blocks: tl.constexpr, blocks: tl.constexpr
):
    """Write those of at least the key ``least`` into ``into``; returns how many there are."""
    for first in range(0, count, blocks * BLOCK):
        index = _at(first, blocks)
        x = tl.load(source + index, mask=index < count, other=float("-inf"))
        taken = ((_key(x) >= least) & (index < count)).to(tl.int32)
        tl.store(counts + first // BLOCK + tl.arange(0, blocks), tl.sum(taken, axis=1))
    tl.debug_barrier()
    number = tl.arange(0, all_blocks)
    there = number < tl.cdiv(count, BLOCK)
    own = tl.load(counts + number, mask=there, other=0)
    ends = tl.cumsum(own, axis=0)
    tl.debug_barrier()
    tl.store(counts + number, ends - own, mask=there)
    tl.debug_barrier()
    for first in range(0, count, blocks * BLOCK):
        index = _at(first, blocks)
        x = tl.load(source + index, mask=index < count, other=float("-inf"))
        taken = ((_key(x) >= least) & (index < count)).to(tl.int32)
        begins = tl.load(counts + first // BLOCK + tl.arange(0, blocks))
        place = begins[:, None] + tl.cumsum(taken, axis=1) - 1
        tl.store(into + place, x, mask=(taken > 0) & (place < room))
    tl.debug_barrier()
    return tl.max(ends, axis=0)


@triton.jit
def _kept(source, index, count, edge, equals, peak, heat, least):
    """Weights, 0 where a filter drops the token."""
    x = tl.load(source + index, mask=index < count, other=float("-inf"))
    key = _key(x)
    weights = tl.exp((x - peak) / heat)
    is_kept = (key > edge) | ((key == edge) & (index < equals))
    return tl.where(is_kept & (weights.to(tl.float64) >= least), weights, 0.0)


@triton.jit
def _draw(
    source,
    count,
    edge,
    equals,
    peak,
    heat,
    least,
    uniform,
    sums,
    all_blocks: tl.constexpr,
    blocks: tl.constexpr,
):
    """The token that ``uniform`` falls on, of those that are kept, in order of id."""
    for first in range(0, count, blocks * BLOCK):
        index = _at(first, blocks)
        weights = _kept(source, index, count, edge, equals, peak, heat, least)
        tl.store(sums + first // BLOCK + tl.arange(0, blocks), tl.sum(weights, axis=1))
    tl.debug_barrier()
    number = tl.arange(0, all_blocks)
    own = tl.load(sums + number, mask=number < tl.cdiv(count, BLOCK), other=0.0).to(tl.float64)
    ends = tl.cumsum(own, axis=0)
    whole = tl.max(ends, axis=0)
    target = uniform * whole
    # Rounding may leave the target at the very end: then the last with a weight is meant.
    last = tl.sum((ends < whole).to(tl.int32), axis=0)
    chosen = tl.minimum(tl.sum((ends <= target).to(tl.int32), axis=0), last)
    before = tl.sum(tl.where(number < chosen, own, 0.0), axis=0)
    index = chosen * BLOCK + tl.arange(0, BLOCK)
    weights = _kept(source, index, count, edge, equals, peak, heat, least).to(tl.float64)
    inner = before + tl.cumsum(weights, axis=0)
    last = tl.sum((inner < tl.max(inner, axis=0)).to(tl.int32), axis=0)
    found = tl.minimum(tl.sum((inner <= target).to(tl.int32), axis=0), last)
    return chosen * BLOCK + found


@triton.jit
def _filtered(
    source,
    count,
    largest,
    room,
    maxima,
    counts,
    peak,
    heat,
    top_k,
    top_p,
    likeliest,
    all_blocks: tl.constexpr,
    blocks: tl.constexpr,
):
    """What top-k and top-p leave: tokens above a key, and those of it up to an id."""
    lowest = tl.full([], _LOWEST, tl.int64)
    low, high = lowest, _key(peak).to(tl.int64) + 1
    few, few_count = source, count
    wanted = tl.where(top_k > 0, tl.minimum(top_k, count), likeliest)
    there = tl.cdiv(count, BLOCK)
    if wanted <= there:
        bound = _edge_of_count(maxima, there, wanted, low, high, blocks)
        found = _gather_largest(source, count, bound, largest, room, counts, all_blocks, blocks)
        if found <= room:
            few, few_count, low = largest, found, bound
    edge = low
    if top_k > 0:
        edge = _edge_of_count(few, few_count, wanted, low, high, blocks)
    equals = count
    if top_p < 1.0:
        if top_k > 0:
            target = top_p * _mass(few, few_count, edge, peak, heat, blocks)
        else:
            target = top_p * _mass(source, count, lowest, peak, heat, blocks)
            if _mass(few, few_count, low, peak, heat, blocks) < target:
                few, few_count, edge = source, count, lowest
        edge = _edge_of_mass(few, few_count, target, edge, high, peak, heat, blocks)
        above = _mass(few, few_count, edge + 1, peak, heat, blocks)
        weight = tl.exp((_float(edge.to(tl.int32)) - peak) / heat).to(tl.float64)
        needed = tl.maximum(tl.ceil((target - above) / weight), 1.0)
        if needed < _count_equals(few, few_count, edge, blocks):
            equals = _end_of_equals(source, count, edge, needed.to(tl.int32), blocks)
    elif top_k == 0:
        edge = lowest
    return edge, equals


@triton.jit
def _penalised(x, times, numbers):
    """Penalties for tokens that were seen ``times``; in fp64, rounded once."""
    repetition, frequency = tl.load(numbers + 4), tl.load(numbers + 5)
    presence = tl.load(numbers + 6)
    score = x.to(tl.float64)
    score = tl.where(score < 0.0, score * repetition, score / repetition)
    count = tl.maximum(times - 1, 0)
    score -= count.to(tl.float64) * frequency
    score -= tl.where(count > 0, presence, 0.0)
    return tl.where(times > 0, score.to(tl.float32), x)


@triton.jit
def _choose(
    logits,
    seen,
    drawn,
    scratch,
    kinds,
    numbers,
    wholes,
    number_stride,
    whole_stride,
    vocabulary,
    likeliest,
    room,
    all_blocks: tl.constexpr,
    blocks: tl.constexpr,
):
    row = tl.program_id(0)
    kind = tl.load(kinds + row * whole_stride)
    if kind == SKIPPED:
        return
    numbers += row * number_stride
    wholes += row * whole_stride
    source = logits + row.to(tl.int64) * vocabulary
    top_k, slot, withheld = tl.load(wholes), tl.load(wholes + 1), tl.load(wholes + 2)
    history = seen + tl.maximum(slot, 0).to(tl.int64) * vocabulary
    maxima = scratch + row * (2 * all_blocks + room)
    counts, largest = maxima + all_blocks, maxima + 2 * all_blocks

    highest = tl.full([blocks, BLOCK], float("-inf"), tl.float32)
    where = tl.zeros([blocks, BLOCK], tl.int32)
    is_bad = tl.zeros([blocks, BLOCK], tl.int32)
    for first in range(0, vocabulary, blocks * BLOCK):
        index = _at(first, blocks)
        is_there = index < vocabulary
        x = tl.load(source + index, mask=is_there, other=float("-inf"))
        if (slot >= 0) | (withheld > 0):
            for number in range(withheld):
                x = tl.where(index == tl.load(wholes + 3 + number), float("-inf"), x)
            if slot >= 0:
                x = _penalised(x, tl.load(history + index, mask=is_there, other=0), numbers)
            tl.store(source + index, x, mask=is_there)
        is_number = x == x
        is_bad = tl.where(is_number, is_bad, 1)
        x = tl.where(is_number, x, float("-inf"))
        where = tl.where(x > highest, index, where)
        highest = tl.maximum(highest, x)
        if kind == DRAWN:
            tl.store(maxima + first // BLOCK + tl.arange(0, blocks), tl.max(x, axis=1))
    tl.debug_barrier()  # what other threads of this program have stored is read next
    peak = tl.max(tl.max(highest, axis=1), axis=0)
    candidates = tl.where(highest == peak, where, vocabulary - 1)
    token = tl.min(tl.min(candidates, axis=1), axis=0)
    is_finite = (_whole(is_bad) == 0) & (peak < float("inf"))
    if (kind == DRAWN) & is_finite & (peak > float("-inf")):
        heat, top_p = tl.load(numbers + 1).to(tl.float32), tl.load(numbers + 2)
        edge, equals = _filtered(
            source,
            vocabulary,
            largest,
            room,
            maxima,
            counts.to(tl.pointer_type(tl.int32), bitcast=True),
            peak,
            heat,
            top_k,
            top_p,
            likeliest,
            all_blocks,
            blocks,
        )
        token = _draw(
            source,
            vocabulary,
            edge,
            equals,
            peak,
            heat,
            tl.load(numbers + 3),
            tl.load(numbers),
            counts,
            all_blocks,
            blocks,
        )
    peak = tl.where(is_finite, peak, float("nan"))
    tl.store(drawn + row * 2, token)
    tl.store(drawn + row * 2 + 1, peak.to(tl.int32, bitcast=True))
    if slot >= 0:
        tl.store(history + token, tl.maximum(tl.load(history + token), 1) + 1)


def choose(
    logits: torch.Tensor,
    seen: torch.Tensor,
    rows: Rows,
    drawn: torch.Tensor,
    *,
    size: int,
    blocks: int = BLOCKS,
    likeliest: int = LIKELIEST,
    room: int = ROOM,
) -> None:
    """Choose a token for the first ``size`` rows; see :class:`server.engine.cuda.step.Kernels`.

    The other numbers decide how quickly, and nothing else.
    """
    vocabulary = logits.shape[1]
    all_blocks = triton.next_power_of_2(triton.cdiv(vocabulary, blocks * BLOCK.value) * blocks)
    scratch = torch.empty((size, 2 * all_blocks + room), dtype=torch.float32, device=logits.device)
    _choose[(size,)](
        logits,
        seen,
        drawn,
        scratch,
        rows.kind,
        rows.numbers,
        rows.wholes,
        rows.numbers.stride(0),
        rows.wholes.stride(0),
        vocabulary,
        likeliest,
        room,
        all_blocks,
        blocks,
        num_warps=8,
    )
