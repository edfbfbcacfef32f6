"""A linear layer for single tokens, with the products with the adapters' A: three ways.

For a few tokens, reading the weights is all the work there is (:func:`_project`). A program takes
some outputs for all tokens, so every weight is read once; it reads as many as it can before it
waits for the inputs. Further programs make the products with A meanwhile, of the same inputs.

For some tens there is :mod:`.multiply`; for more, and between the two, libraries are quicker.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it
import triton
import triton.language as tl

from server.engine.cuda.kernels.adapters import PARTS, ROWS, factors, part_of, shrink
from server.engine.cuda.kernels.multiply import can_multiply, multiply
from server.engine.cuda.kernels.overlap import begin_early, early, overlaps, wait
from server.engine.cuda.step import Step

# The weights that a program of so many warps holds at once, and the most inputs among them.
WEIGHTS, WARPS = 8192, 4
MOST_COLUMNS = 4096
LEAST_OUTPUTS = 2


@triton.jit
def _times(factor, x, column, inputs: tl.constexpr):
    """[rows] fp32: what ``factor`` [rows, columns] makes of those columns of ``x``."""
    given = tl.load(x + column, mask=column < inputs, other=0.0)
    return tl.sum(factor.to(tl.float32) * given.to(tl.float32)[None, :], axis=1)


@triton.jit
def _project(
    x,
    weight,
    bias,
    y,
    out,
    out_stride,
    addresses,
    ranks,
    stride,
    offset,
    outputs,
    projections: tl.constexpr,
    inputs: tl.constexpr,
    count: tl.constexpr,
    tokens: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    a_rows: tl.constexpr,
    parts: tl.constexpr,
    has_bias: tl.constexpr,
    has_lora: tl.constexpr,
    overlaps: tl.constexpr,
):
    begin_early(overlaps)
    number = tl.program_id(0)
    lane = tl.arange(0, columns)
    shares = 0
    if has_lora:
        shares = count * parts
        if number < shares:
            token = number // parts
            a, rank = factors(token, addresses, ranks, stride, offset, x)
            first = number % parts * a_rows
            row = first + tl.arange(0, a_rows)
            factor = part_of(a, row, lane, projections * rank, inputs)
            wait(overlaps)
            for start in range(first, projections * rank, parts * a_rows):
                row = start + tl.arange(0, a_rows)
                if start > first:
                    factor = part_of(a, row, lane, projections * rank, inputs)
                total = _times(factor, x + token * inputs, lane, inputs)
                for begin in range(columns, inputs, columns):
                    more = part_of(a, row, begin + lane, projections * rank, inputs)
                    total += _times(more, x + token * inputs, begin + lane, inputs)
                tl.store(out + token * out_stride + row, total, mask=row < projections * rank)
    if number >= shares:
        row = (number - shares) * rows + tl.arange(0, rows)
        has_row = row < outputs
        token = tl.arange(0, tokens)[:, None]
        factor = part_of(weight, row, lane, outputs, inputs)
        total = tl.zeros([tokens, rows], tl.float32)
        if has_bias:
            total += tl.load(bias + row, mask=has_row, other=0.0).to(tl.float32)[None, :]
        wait(overlaps)
        for own in tl.static_range(count):
            found = _times(factor, x + own * inputs, lane, inputs)
            total += tl.where(token == own, found[None, :], 0.0)
        for begin in range(columns, inputs, columns):
            factor = part_of(weight, row, begin + lane, outputs, inputs)
            for own in tl.static_range(count):
                found = _times(factor, x + own * inputs, begin + lane, inputs)
                total += tl.where(token == own, found[None, :], 0.0)
        mask = has_row[None, :]
        if tokens > count:  # three take the room of four
            mask &= token < count
        tl.store(y + token * outputs + row[None, :], total, mask=mask)


def project(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    step: Step,
    *,
    offset: int,
    projections: int,
    out: torch.Tensor | None,
    in_pieces: bool = False,
) -> torch.Tensor:
    """See :class:`server.engine.cuda.step.Kernels`."""
    named = {"offset": offset, "projections": projections}
    if step.is_few:
        return _of_a_few(x, weight, bias, step, out=out, **named)
    if can_multiply(step, x.dtype):
        return multiply(x, weight, bias, step, out=out, in_pieces=in_pieces, **named)
    if out is not None:
        shrink(x, step, out=out, **named)
    return F.linear(x, weight, bias)


def _of_a_few(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    step: Step,
    *,
    offset: int,
    projections: int,
    out: torch.Tensor | None,
) -> torch.Tensor:
    outputs, inputs = weight.shape
    y = torch.empty((step.count, outputs), dtype=x.dtype, device=x.device)
    columns = min(MOST_COLUMNS, triton.next_power_of_2(inputs))
    rows = max(LEAST_OUTPUTS, WEIGHTS // columns)
    parts = PARTS[x.device.type]
    shares = 0 if out is None else step.count * parts
    is_early = overlaps(step)
    _project[(shares + triton.cdiv(outputs, rows),)](
        x,
        weight,
        bias,
        y,
        out,
        0 if out is None else out.stride(0),
        step.addresses,
        step.ranks,
        step.ranks.stride(0),
        offset,
        outputs,
        projections,
        inputs,
        step.count,
        triton.next_power_of_2(step.count),
        rows,
        columns,
        ROWS[1],
        parts,
        bias is not None,
        out is not None,
        is_early,
        num_warps=WARPS,
        **early(is_early),
    )
    return y
