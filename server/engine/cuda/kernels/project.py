"""A linear layer for a few single tokens: reading its weights is all the work there is.

A program takes some outputs for all tokens, so every weight is read once. Further programs make the
products with the adapters' A meanwhile, of the same inputs.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.engine.cuda.kernels.adapters import INPUTS, PARTS, ROWS, factors, shrink_tile, span
from server.engine.cuda.step import Step

# Outputs of a program, where a layer has fewer than MANY and where not: programs for a whole GPU.
OUTPUTS, MANY_OUTPUTS, MANY = 8, 16, 3072


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
    tokens: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    a_rows: tl.constexpr,
    parts: tl.constexpr,
    has_bias: tl.constexpr,
    has_lora: tl.constexpr,
):
    number = tl.program_id(0)
    shares = 0
    if has_lora:
        shares = tokens * parts
        if number < shares:
            token = number // parts
            rank = tl.load(ranks + token * stride)
            if rank > 0:
                mine, is_there = span(token, ranks, ranks, stride, 1)
                a = factors(token, addresses, stride // 2, rank, offset, x)
                shrink_tile(
                    x,
                    inputs,
                    out,
                    out_stride,
                    mine,
                    is_there,
                    a,
                    rank,
                    number % parts,
                    projections,
                    inputs,
                    a_rows,
                    columns,
                    parts,
                )
    if number >= shares:
        row = (number - shares) * rows + tl.arange(0, rows)
        has_row = row < outputs
        token = tl.arange(0, tokens)[:, None]
        total = tl.zeros([tokens, rows], tl.float32)
        for first in range(0, inputs, columns):
            column = first + tl.arange(0, columns)
            has_column = column < inputs
            factor = tl.load(
                weight + row[:, None].to(tl.int64) * inputs + column[None, :],
                mask=has_row[:, None] & has_column[None, :],
                other=0.0,
            ).to(tl.float32)
            for own in tl.static_range(tokens):
                given = tl.load(x + own * inputs + column, mask=has_column, other=0.0)
                found = tl.sum(factor * given.to(tl.float32)[None, :], axis=1)
                total += tl.where(token == own, found[None, :], 0.0)
        if has_bias:
            total += tl.load(bias + row, mask=has_row, other=0.0).to(tl.float32)[None, :]
        tl.store(y + token * outputs + row[None, :], total, mask=has_row[None, :])


def project(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    step: Step,
    *,
    offset: int,
    projections: int,
    out: torch.Tensor | None,
) -> torch.Tensor:
    """See :class:`server.engine.cuda.step.Kernels`."""
    outputs, inputs = weight.shape
    y = torch.empty((step.count, outputs), dtype=x.dtype, device=x.device)
    rows = MANY_OUTPUTS if outputs >= MANY else OUTPUTS
    parts = PARTS[x.device.type]
    shares = 0 if out is None else step.count * parts
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
        rows,
        min(INPUTS[1], triton.next_power_of_2(inputs)),
        ROWS[1],
        parts,
        bias is not None,
        out is not None,
    )
    return y
