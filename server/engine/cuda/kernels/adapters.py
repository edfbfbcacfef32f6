"""LoRA: the product with A, and what the kernels behind a projection add with B."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.engine.cuda.kernels.overlap import begin_early, early, overlaps, wait
from server.engine.cuda.step import Step

# How many programs share a tile's products with A; Triton's interpreter runs one after the other.
PARTS = {"cuda": 16, "cpu": 1}
# How many rows and columns of A a program works on at once, by the size of tiles.
ROWS = {1: 4, 16: 16}
INPUTS = {1: 1024, 16: 256}
RANKS = tl.constexpr(16)


@triton.jit
def part_of(matrix, row, column, count, inputs: tl.constexpr):
    """[rows, columns] of a matrix [count, inputs]; zeros where there is none."""
    mask = (row < count)[:, None] & (column < inputs)[None, :]
    at = matrix + row[:, None].to(tl.int64) * inputs + column[None, :]
    return tl.load(at, mask=mask, other=0.0)


@triton.jit
def span(number, starts, counts, stride, tile: tl.constexpr):
    """The tokens [tile] of a tile, and which of them there are."""
    lane = tl.arange(0, tile)
    if tile == 1:
        return number + lane, lane == 0
    start = tl.load(starts + number * stride)
    return start + lane, lane < tl.load(counts + number * stride)


@triton.jit
def factors(number, addresses, ranks, stride, offset, like):
    """Where the adapter of a tile has the part at ``offset`` (elements for each rank); its rank.

    Both loads are under way at once. Without an adapter the rank is 0, and nothing may be read.
    """
    address = tl.load(addresses + number * (stride // 2))
    rank = tl.load(ranks + number * stride)
    start = address.to(tl.pointer_type(like.dtype.element_ty))
    return tl.multiple_of(start, 16) + rank.to(tl.int64) * offset, rank


@triton.jit
def rows_of_b(b, rank, outputs, columns, start):
    """[RANKS, columns]: of B [rank, outputs] from row ``start`` on; zeros where there is none."""
    row = start + tl.arange(0, RANKS)
    return tl.load(
        b + row[:, None] * outputs + columns[None, :],
        mask=(row < rank)[:, None] & (columns < outputs)[None, :],
        other=0.0,
    )


@triton.jit
def _expanded(shrunk, shrunk_stride, first, rank, right, tokens, has_token, start):
    inner = start + tl.arange(0, RANKS)
    if tokens.shape[0] == 1:
        line = shrunk + tl.max(tokens, axis=0) * shrunk_stride + first
        left = tl.load(line + inner, mask=inner < rank, other=0.0)
        wide = tl.expand_dims(left, 1) * right.to(tl.float32)
        return tl.expand_dims(tl.sum(wide, axis=0), 0)
    left = tl.load(
        shrunk + tokens[:, None] * shrunk_stride + (first + inner)[None, :],
        mask=has_token[:, None] & (inner < rank)[None, :],
        other=0.0,
    )
    return tl.dot(left.to(right.dtype), right, input_precision="ieee")


@triton.jit
def expanded(shrunk, shrunk_stride, first, rank, b, right, outputs, tokens, has_token, columns):
    """[tokens, columns] fp32: the shrunk inputs from column ``first`` on, times B.

    ``right``: the first :func:`rows_of_b`, which may have been read long before ``shrunk`` is
    there.
    """
    total = _expanded(shrunk, shrunk_stride, first, rank, right, tokens, has_token, 0)
    for start in range(RANKS, rank, RANKS):
        more = rows_of_b(b, rank, outputs, columns, start)
        total += _expanded(shrunk, shrunk_stride, first, rank, more, tokens, has_token, start)
    return total


@triton.jit
def shrink_tile(
    x,
    x_stride,
    out,
    out_stride,
    tokens,
    has_token,
    a,
    rank,
    part,
    projections: tl.constexpr,
    inputs: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    parts: tl.constexpr,
    overlaps: tl.constexpr,
):
    """Every ``parts``-th group of ``rows`` of a tile's product with ``a``, from ``part`` on.

    For single tokens, what it needs first of ``a`` is read before ``x`` is waited for.
    """
    begin, count = part * rows, projections * rank
    inner, lane = tl.arange(0, rows), tl.arange(0, columns)
    if tokens.shape[0] == 1:
        factor = part_of(a, begin + inner, lane, count, inputs)
    wait(overlaps)
    for start in range(begin, count, parts * rows):
        row = start + inner
        total = tl.zeros([tokens.shape[0], rows], tl.float32)
        for first in range(0, inputs, columns):
            column = first + lane
            given = tl.load(
                x + tokens[:, None].to(tl.int64) * x_stride + column[None, :],
                mask=has_token[:, None] & (column < inputs)[None, :],
                other=0.0,
            )
            # Only loads that every round makes are pipelined.
            if tokens.shape[0] > 1:  # noqa: SIM114 - decided when it is compiled
                factor = part_of(a, row, column, count, inputs)
            elif start > begin or first > 0:
                factor = part_of(a, row, column, count, inputs)
            if tokens.shape[0] == 1:
                wide = given.to(tl.float32) * factor.to(tl.float32)
                total += tl.expand_dims(tl.sum(wide, axis=1), 0)
            else:
                total += tl.dot(given, tl.trans(factor), input_precision="ieee")
        tl.store(
            out + tokens[:, None] * out_stride + row[None, :],
            total,
            mask=has_token[:, None] & (row < count)[None, :],
        )


@triton.jit
def _shrink(
    x,
    x_stride,
    out,
    out_stride,
    starts,
    counts,
    addresses,
    ranks,
    stride,
    offset,
    projections: tl.constexpr,
    inputs: tl.constexpr,
    tile: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    parts: tl.constexpr,
    overlaps: tl.constexpr,
):
    begin_early(overlaps)
    number, part = tl.program_id(0), tl.program_id(1)
    a, rank = factors(number, addresses, ranks, stride, offset, x)
    tokens, has_token = span(number, starts, counts, stride, tile)
    shrink_tile(
        x,
        x_stride,
        out,
        out_stride,
        tokens,
        has_token,
        a,
        rank,
        part,
        projections,
        inputs,
        rows,
        columns,
        parts,
        overlaps,
    )


def shrink(
    x: torch.Tensor,
    step: Step,
    *,
    offset: int,
    projections: int,
    out: torch.Tensor,
) -> None:
    """See :class:`server.engine.cuda.step.Kernels`."""
    inputs = x.shape[1]
    tile, parts = step.tile, PARTS[x.device.type]
    is_early = overlaps(step)
    _shrink[(step.tiles, parts)](
        x,
        x.stride(0),
        out,
        out.stride(0),
        step.starts,
        step.counts,
        step.addresses,
        step.ranks,
        step.ranks.stride(0),
        offset,
        projections,
        inputs,
        tile,
        ROWS[tile],
        min(INPUTS[tile], triton.next_power_of_2(inputs)),
        parts,
        is_early,
        **early(is_early),
    )
