"""The middle of the MLP: the adapters' B, and SiLU of the gate times the rest."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.engine.cuda.kernels.adapters import expanded, factors, rows_of_b, span
from server.engine.cuda.kernels.overlap import begin_early, early, overlaps, wait
from server.engine.cuda.step import Share, Step

# Columns of a program. Of single tokens it is one warp, which needs no memory to add B up.
COLUMNS = 128


@triton.jit
def _gate(
    gate_up,
    out,
    shrunk,
    shrunk_stride,
    starts,
    counts,
    addresses,
    ranks,
    stride,
    offset,
    width: tl.constexpr,
    columns: tl.constexpr,
    tile: tl.constexpr,
    has_lora: tl.constexpr,
    overlaps: tl.constexpr,
):
    begin_early(overlaps)
    number = tl.program_id(0)
    if tile > 1:  # noqa: SIM102 - decided when it is compiled
        if tl.load(counts + number * stride) == 0:
            return
    tokens, has_token = span(number, starts, counts, stride, tile)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    mask = has_token[:, None] & (column < width)[None, :]
    line = tokens[:, None].to(tl.int64)
    wide = 2 * width
    if has_lora:
        b, rank = factors(number, addresses, ranks, stride, offset, gate_up)
        left = rows_of_b(b, rank, wide, column, 0)
        right = rows_of_b(b, rank, wide, width + column, 0)
    wait(overlaps)
    gate = tl.load(gate_up + line * 2 * width + column[None, :], mask=mask, other=0.0)
    up = tl.load(gate_up + line * 2 * width + width + column[None, :], mask=mask, other=0.0)
    gate, up = gate.to(tl.float32), up.to(tl.float32)
    if has_lora:
        at = shrunk, shrunk_stride
        gate += expanded(*at, 0, rank, b, left, wide, tokens, has_token, column)
        up += expanded(*at, rank, rank, b, right, wide, tokens, has_token, width + column)
    tl.store(out + line * width + column[None, :], gate * tl.sigmoid(gate) * up, mask=mask)


def gate(gate_up: torch.Tensor, step: Step, *, share: Share | None = None) -> torch.Tensor:
    """See :class:`server.engine.cuda.step.Kernels`."""
    width = gate_up.shape[1] // 2
    out = torch.empty((gate_up.shape[0], width), dtype=gate_up.dtype, device=gate_up.device)
    columns = min(COLUMNS, triton.next_power_of_2(width))
    is_early = overlaps(step)
    _gate[(step.tiles, triton.cdiv(width, columns))](
        gate_up,
        out,
        None if share is None else share.shrunk,
        0 if share is None else share.shrunk.stride(0),
        step.starts,
        step.counts,
        step.addresses,
        step.ranks,
        step.ranks.stride(0),
        0 if share is None else share.offset,
        width,
        columns,
        step.tile,
        share is not None,
        is_early,
        num_warps=1 if step.tile == 1 else 4,
        **early(is_early),
    )
    return out
