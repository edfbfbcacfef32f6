"""Choosing a token of each row, in one kernel: penalties, filters and the draw.

It does what :mod:`server.engine.sampling` says, in that order, from the penalties on; a program
takes a row. No vocabulary is sorted. Floats are compared as whole numbers of the same order
(:func:`_key`), so the edge of a filter is found by halving an interval: over the few largest logits
where these are enough, else over all of them. The maxima of blocks of 64 tell where those are.

The token is that of the reference wherever the row's number is not within rounding of an edge.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.engine.cuda import step
from server.engine.cuda.step import Rows

BLOCK = tl.constexpr(64)
# Top-p looks among so many of the largest first.
LIKELIEST = 1024
# How many of the largest there is room for.
ROOM = 4096
CHUNK = 4096

_LOWEST = tl.constexpr(-(2**31))
SKIPPED, DRAWN = tl.constexpr(step.SKIPPED), tl.constexpr(step.DRAWN)


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
def _count(source, count, least, chunk: tl.constexpr):
    """How many of ``source`` [count] have at least the key ``least``."""
    total = 0
    for first in range(0, count, chunk):
        index = first + tl.arange(0, chunk)
        x = tl.load(source + index, mask=index < count, other=float("-inf"))
        total += tl.sum(((_key(x) >= least) & (index < count)).to(tl.int32), axis=0)
    return total


@triton.jit
def _mass(source, count, least, peak, heat, chunk: tl.constexpr):
    """Their weights together, fp64."""
    total = tl.zeros([], tl.float64)
    for first in range(0, count, chunk):
        index = first + tl.arange(0, chunk)
        x = tl.load(source + index, mask=index < count, other=float("-inf"))
        weights = tl.where(_key(x) >= least, tl.exp((x - peak) / heat), 0.0)
        total += tl.sum(weights, axis=0).to(tl.float64)
    return total


@triton.jit
def _edge_of_count(source, count, wanted, low, high, chunk: tl.constexpr):
    """The ``wanted``-th largest key: at least ``low``, below ``high`` (both int64)."""
    while high - low > 1:
        middle = (low + high) >> 1
        if _count(source, count, middle, chunk) >= wanted:
            low = middle
        else:
            high = middle
    return low


@triton.jit
def _edge_of_mass(source, count, wanted, low, high, peak, heat, chunk: tl.constexpr):
    """The largest key such that all from it on have the mass ``wanted``."""
    while high - low > 1:
        middle = (low + high) >> 1
        if _mass(source, count, middle, peak, heat, chunk) >= wanted:
            low = middle
        else:
            high = middle
    return low


@triton.jit
def _ids_of_equals(source, count, key, wanted, chunk: tl.constexpr):
    """Below which id there are ``wanted`` tokens of just this ``key``."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) >> 1
        if _equals_below(source, middle, key, chunk) >= wanted:
            high = middle
        else:
            low = middle
    return high


@triton.jit
def _equals_below(source, count, key, chunk: tl.constexpr):
    total = 0
    for first in range(0, count, chunk):
        index = first + tl.arange(0, chunk)
        x = tl.load(source + index, mask=index < count, other=float("-inf"))
        total += tl.sum(((_key(x) == key) & (index < count)).to(tl.int32), axis=0)
    return total


@triton.jit
def _gather_largest(source, count, least, into, room, chunk: tl.constexpr):
    """Write those of at least the key ``least`` into ``into``; returns how many there are."""
    total = 0
    for first in range(0, count, chunk):
        index = first + tl.arange(0, chunk)
        x = tl.load(source + index, mask=index < count, other=float("-inf"))
        taken = ((_key(x) >= least) & (index < count)).to(tl.int32)
        place = total + tl.cumsum(taken, axis=0) - 1
        tl.store(into + place, x, mask=(taken > 0) & (place < room))
        total += tl.sum(taken, axis=0)
    return total


@triton.jit
def _draw(source, count, edge, equals, peak, heat, least, uniform, chunk, chunks: tl.constexpr):
    """The token that ``uniform`` falls on, of those that are kept, in order of id."""
    place = tl.arange(0, chunks)
    sums = tl.zeros([chunks], tl.float64)
    for first in range(0, count, chunk):
        index = first + tl.arange(0, chunk)
        weights = _kept(source, index, count, edge, equals, peak, heat, least)
        sums = tl.where(place == first // chunk, tl.sum(weights, axis=0).to(tl.float64), sums)
    ends = tl.cumsum(sums, axis=0)
    whole = tl.max(ends, axis=0)
    target = uniform * whole
    # Rounding may leave the target at the very end: then the last with a weight is meant.
    last = tl.sum((ends < whole).to(tl.int32), axis=0)
    number = tl.minimum(tl.sum((ends <= target).to(tl.int32), axis=0), last)
    before = tl.sum(tl.where(place < number, sums, 0.0), axis=0)
    index = number * chunk + tl.arange(0, chunk)
    weights = _kept(source, index, count, edge, equals, peak, heat, least).to(tl.float64)
    inner = before + tl.cumsum(weights, axis=0)
    last = tl.sum((inner < tl.max(inner, axis=0)).to(tl.int32), axis=0)
    found = tl.minimum(tl.sum((inner <= target).to(tl.int32), axis=0), last)
    return number * chunk + found


@triton.jit
def _kept(source, index, count, edge, equals, peak, heat, least):
    """Weights, 0 where a filter drops the token."""
    x = tl.load(source + index, mask=index < count, other=float("-inf"))
    key = _key(x)
    weights = tl.exp((x - peak) / heat)
    is_kept = (key > edge) | ((key == edge) & (index < equals))
    return tl.where(is_kept & (weights.to(tl.float64) >= least), weights, 0.0)


@triton.jit
def _filtered(
    source,
    count,
    largest,
    maxima,
    peak,
    heat,
    top_k,
    top_p,
    likeliest,
    room,
    blocks,
    chunk: tl.constexpr,
    block_chunk: tl.constexpr,
):
    """What top-k and top-p leave: tokens above a key, and those of it up to an id."""
    high = _key(peak).to(tl.int64) + 1
    low = tl.full([], _LOWEST, tl.int64)
    few, few_count = source, count
    wanted = tl.where(top_k > 0, tl.minimum(top_k, count), likeliest)
    if wanted <= blocks:
        bound = _edge_of_count(maxima, blocks, wanted, low, high, block_chunk)
        found = _gather_largest(source, count, bound, largest, room, chunk)
        if found <= room:
            few, few_count, low = largest, found, bound
    tl.debug_barrier()  # what other threads of this program have stored is read next
    edge = low
    if top_k > 0:
        edge = _edge_of_count(few, few_count, wanted, low, high, chunk)
    equals = count
    if top_p < 1.0:
        if top_k > 0:
            target = top_p * _mass(few, few_count, edge, peak, heat, chunk)
        else:
            target = top_p * _mass(source, count, low * 0 + _LOWEST, peak, heat, chunk)
            if _mass(few, few_count, low, peak, heat, chunk) < target:
                few, few_count = source, count
                edge = low * 0 + _LOWEST
        edge = _edge_of_mass(few, few_count, target, edge, high, peak, heat, chunk)
        above = _mass(few, few_count, edge + 1, peak, heat, chunk)
        weight = tl.exp((_float(edge.to(tl.int32)) - peak) / heat).to(tl.float64)
        there = _equals_below(few, few_count, edge, chunk)
        needed = tl.maximum(tl.ceil((target - above) / weight), 1.0)
        if needed < there:
            equals = _ids_of_equals(source, count, edge, needed.to(tl.int32), chunk)
    elif top_k == 0:
        edge = low * 0 + _LOWEST
    return edge, equals


@triton.jit
def _choose(
    logits,
    seen,
    results,
    maxima,
    largest,
    kinds,
    numbers,
    wholes,
    number_stride,
    whole_stride,
    vocabulary,
    likeliest,
    room,
    chunk: tl.constexpr,
    chunks: tl.constexpr,
    block_chunk: tl.constexpr,
):
    row = tl.program_id(0)
    kind = tl.load(kinds + row * whole_stride)
    if kind == SKIPPED:
        return
    numbers += row * number_stride
    wholes += row * whole_stride
    source = logits + row.to(tl.int64) * vocabulary
    slot = tl.load(wholes + 1)
    history = seen + tl.maximum(slot, 0).to(tl.int64) * vocabulary
    withheld = tl.load(wholes + 2)
    maxima += row * block_chunk
    largest += row * room

    peak = float("-inf")
    token = 0
    is_bad = 0
    for first in range(0, vocabulary, chunk):
        index = first + tl.arange(0, chunk)
        is_there = index < vocabulary
        x = tl.load(source + index, mask=is_there, other=float("-inf"))
        if (slot >= 0) | (withheld > 0):
            for number in range(withheld):
                x = tl.where(index == tl.load(wholes + 3 + number), float("-inf"), x)
            if slot >= 0:
                times = tl.load(history + index, mask=is_there, other=0)
                x = _penalised(x, times, numbers)
            tl.store(source + index, x, mask=is_there)
        is_bad += tl.sum((x != x).to(tl.int32), axis=0)
        x = tl.where(x != x, float("-inf"), x)
        highest = tl.max(x, axis=0)
        if highest > peak:
            peak = highest
            token = first + tl.argmax(x, axis=0)
        inner = tl.max(tl.reshape(x, [chunk // BLOCK, BLOCK]), axis=1)
        tl.store(maxima + first // BLOCK + tl.arange(0, chunk // BLOCK), inner)
    tl.debug_barrier()  # what other threads of this program have stored is read next
    is_bad += (peak == float("inf")).to(tl.int32)
    if (kind == DRAWN) & (is_bad == 0) & (peak > float("-inf")):
        heat = tl.load(numbers + 1).to(tl.float32)
        top_k, top_p = tl.load(wholes), tl.load(numbers + 2)
        blocks = tl.cdiv(vocabulary, BLOCK)
        edge, equals = _filtered(
            source,
            vocabulary,
            largest,
            maxima,
            peak,
            heat,
            top_k,
            top_p,
            likeliest,
            room,
            blocks,
            chunk,
            block_chunk,
        )
        least, uniform = tl.load(numbers + 3), tl.load(numbers)
        token = _draw(source, vocabulary, edge, equals, peak, heat, least, uniform, chunk, chunks)
    if is_bad > 0:
        peak = float("nan")
    tl.store(results + row * 2, token)
    tl.store(results + row * 2 + 1, peak.to(tl.int32, bitcast=True))
    if slot >= 0:
        times = tl.load(history + token)
        tl.store(history + token, tl.maximum(times, 1) + 1)


@triton.jit
def _penalised(x, times, numbers):
    """Penalties for tokens that were seen: ``times`` is 0 for none, 1 for one of the prompt's,
    and one more for each time that the reply has it. In fp64, rounded once.
    """
    repetition, frequency = tl.load(numbers + 4), tl.load(numbers + 5)
    presence = tl.load(numbers + 6)
    score = x.to(tl.float64)
    score = tl.where(score < 0.0, score * repetition, score / repetition)
    count = tl.maximum(times - 1, 0)
    score -= count.to(tl.float64) * frequency
    score -= tl.where(count > 0, presence, 0.0)
    return tl.where(times > 0, score.to(tl.float32), x)


def choose(
    logits: torch.Tensor,
    seen: torch.Tensor,
    rows: Rows,
    drawn: torch.Tensor,
    *,
    size: int,
    chunk: int = CHUNK,
    likeliest: int = LIKELIEST,
    room: int = ROOM,
) -> None:
    """Choose a token for the first ``size`` rows.

    ``logits``: [rows, vocab] fp32, changed in place by penalties. ``seen``: [lines, vocab] int32,
    how often each token was seen, as :func:`_penalised` has it; the chosen one is counted.
    ``drawn``: [rows, 2] int32, gets the token and the bits of the largest logit: no number where
    one of the logits is none, or infinite.
    """
    vocabulary = logits.shape[1]
    chunks = triton.cdiv(vocabulary, chunk)
    blocks = triton.next_power_of_2(chunks * (chunk // BLOCK.value))
    maxima = torch.empty((size, blocks), dtype=torch.float32, device=logits.device)
    largest = torch.empty((size, room), dtype=torch.float32, device=logits.device)
    _choose[(size,)](
        logits,
        seen,
        drawn,
        maxima,
        largest,
        rows.kind,
        rows.numbers,
        rows.wholes,
        rows.numbers.stride(0),
        rows.wholes.stride(0),
        vocabulary,
        likeliest,
        room,
        chunk,
        triton.next_power_of_2(chunks),
        blocks,
        num_warps=8,
    )
