"""The residual stream: embeddings, what layers add to it, and its norm."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.engine.cuda.kernels.adapters import expanded, factors, rows_of_b, span
from server.engine.cuda.kernels.overlap import begin_early, early, overlaps, wait
from server.engine.cuda.step import Share, Step

# How many columns of a tile are worked on at once, and from how many on by more warps.
COLUMNS = {1: 8192, 16: 256}
WIDE = 1025


@triton.jit
def _embed(tokens, stride, drawn, drawn_stride, embedding, out, width, columns: tl.constexpr):
    number = tl.program_id(0)
    token = tl.load(tokens + number * stride)
    if token < 0:
        token = tl.load(drawn + (-1 - token) * drawn_stride)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    has_column = column < width
    row = tl.load(embedding + token.to(tl.int64) * width + column, mask=has_column)
    tl.store(out + number.to(tl.int64) * width + column, row, mask=has_column)


def embed(step: Step, drawn: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    """See :class:`server.engine.cuda.step.Kernels`."""
    width = embedding.shape[1]
    out = torch.empty((step.count, width), dtype=embedding.dtype, device=embedding.device)
    columns = min(1024, triton.next_power_of_2(width))
    _embed[(step.count, triton.cdiv(width, columns))](
        step.tokens,
        step.tokens.stride(0),
        drawn,
        drawn.stride(0),
        embedding,
        out,
        width,
        columns,
    )
    return out


@triton.jit
def _add_norm(
    residual,
    added,
    out,
    weight,
    shrunk,
    shrunk_stride,
    starts,
    counts,
    addresses,
    ranks,
    stride,
    offset,
    epsilon,
    piece_size,
    width: tl.constexpr,
    columns: tl.constexpr,
    tile: tl.constexpr,
    pieces: tl.constexpr,
    has_lora: tl.constexpr,
    overlaps: tl.constexpr,
):
    begin_early(overlaps)
    number = tl.program_id(0)
    if tile > 1:  # noqa: SIM102 - decided when it is compiled
        if tl.load(counts + number * stride) == 0:
            return
    tokens, has_token = span(number, starts, counts, stride, tile)
    line = tokens[:, None].to(tl.int64) * width
    squares = tl.zeros([tile], tl.float32)
    for first in range(0, width, columns):
        column = first + tl.arange(0, columns)
        mask = has_token[:, None] & (column < width)[None, :]
        at = line + column[None, :]
        if has_lora:
            b, rank = factors(number, addresses, ranks, stride, offset, residual)
            right = rows_of_b(b, rank, width, column, 0)
        if first == 0:
            wait(overlaps)
        x = tl.load(residual + at, mask=mask, other=0.0).to(tl.float32)
        if pieces:
            for piece in tl.static_range(pieces):
                more = tl.load(added + piece * piece_size + at, mask=mask, other=0.0)
                x += more.to(tl.float32)
            if has_lora:
                x += expanded(
                    shrunk, shrunk_stride, 0, rank, b, right, width, tokens, has_token, column
                )
            x = x.to(residual.dtype.element_ty).to(tl.float32)
            tl.store(residual + at, x, mask=mask)
        squares += tl.sum(x * x, axis=1)
    scale = tl.expand_dims(tl.rsqrt(squares / width + epsilon), 1)
    tl.debug_barrier()  # what other threads of this program have stored is read next
    for first in range(0, width, columns):
        column = first + tl.arange(0, columns)
        has_column = column < width
        mask = has_token[:, None] & has_column[None, :]
        at = line + column[None, :]
        x = tl.load(residual + at, mask=mask, other=0.0).to(tl.float32)
        factor = tl.load(weight + column, mask=has_column, other=0.0).to(tl.float32)
        tl.store(out + at, x * scale * factor[None, :], mask=mask)


def add_norm(
    residual: torch.Tensor,
    added: torch.Tensor | None,
    weight: torch.Tensor,
    step: Step,
    *,
    epsilon: float,
    share: Share | None = None,
) -> torch.Tensor:
    """See :class:`server.engine.cuda.step.Kernels`."""
    width = residual.shape[1]
    out = torch.empty_like(residual)
    is_early = overlaps(step)
    _add_norm[(step.tiles,)](
        residual,
        added,
        out,
        weight,
        None if share is None else share.shrunk,
        0 if share is None else share.shrunk.stride(0),
        step.starts,
        step.counts,
        step.addresses,
        step.ranks,
        step.ranks.stride(0),
        0 if share is None else share.offset,
        epsilon,
        residual.numel(),
        width,
        min(COLUMNS[step.tile], triton.next_power_of_2(width)),
        step.tile,
        0 if added is None else added.numel() // residual.numel(),
        share is not None,
        is_early,
        num_warps=8 if width >= WIDE else 4,
        **early(is_early),
    )
    return out
