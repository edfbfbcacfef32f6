"""A linear layer for some tens of single tokens, with the products with the adapters' A.

A program makes some outputs of all tokens. It begins early and asks for its weights before it waits
for the inputs, which no library's kernel does. Behind these programs come others that make the
products with A, of the same inputs; they read their first rows before they wait.

Layers with few outputs are cut along their inputs too, so that all of the GPU reads weights;
whoever reads such an output adds up its pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl

from server.engine.cuda.kernels.adapters import factors, shrink_tile
from server.engine.cuda.kernels.ahead import PIECE, fetch_rows
from server.engine.cuda.kernels.overlap import begin_early, early, overlaps, wait
from server.engine.cuda.step import Step

# The tokens of a program, there or not: matrix units of Hopper GPUs take 64 at once.
TOKENS = 64
LEAST = 17
# Bytes of a number: wider ones have no matrix units without loss.
NARROW = 2
# Bytes of a multiprocessor's memory that the largest cut needs, and some to spare.
NEEDED = 144 * 1024
WARPS = 4
# Inputs that a program takes at once.
COLUMNS = 128
# Rows and columns of A that a program takes at once.
A_ROWS, A_COLUMNS = 4, 1024
# Programs for A, and the most for one token.
A_PROGRAMS, MOST_PARTS = 256, 12
# Programs that a layer is cut into, at least, and the outputs of one.
LEAST_PROGRAMS = 96
LEAST_ROWS, MOST_ROWS = 16, 64


@dataclass(frozen=True)
class Cut:
    """How a layer is cut: ``rows`` outputs a program, in ``pieces`` of the inputs.

    ``stages``: how many times :data:`COLUMNS` inputs are under way.
    """

    rows: int
    pieces: int
    stages: int


def cut_for(outputs: int, *, in_pieces: bool, has_adapters: bool) -> Cut:
    """What was quickest on an H100 for the layers of Qwen3-0.6B (BENCHMARKS.md).

    With adapters a program has less under way, so that theirs find room beside it.
    """
    pieces = 2 if in_pieces else 1
    fitting = 1 << (max(1, outputs * pieces // LEAST_PROGRAMS).bit_length() - 1)
    rows = min(max(fitting, LEAST_ROWS), MOST_ROWS // 2 if has_adapters else MOST_ROWS)
    if in_pieces:
        return Cut(rows, pieces, 4)
    return Cut(rows, pieces, 3 if has_adapters else 5 if rows < MOST_ROWS else 4)


@triton.jit
def _outputs(
    x,
    weight,
    bias,
    y,
    number,
    count,
    outputs,
    inputs: tl.constexpr,
    tokens: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    pieces: tl.constexpr,
    stages: tl.constexpr,
    has_bias: tl.constexpr,
    fetches: tl.constexpr,
    overlaps: tl.constexpr,
):
    """Program ``number``: some outputs of one piece of the inputs."""
    share: tl.constexpr = (inputs + pieces * columns - 1) // (pieces * columns) * columns
    is_whole: tl.constexpr = pieces * share == inputs
    token = tl.arange(0, tokens)
    piece, start = number % pieces, number // pieces * rows
    row = start + tl.arange(0, rows)
    has_token, has_row = token < count, row < outputs
    itemsize: tl.constexpr = weight.dtype.element_ty.primitive_bitwidth // 8
    if fetches and is_whole and share * itemsize % PIECE == 0:
        own = weight + start.to(tl.int64) * inputs + piece * share
        fetch_rows(own, inputs * itemsize, share * itemsize, rows, outputs - start)
    total = tl.zeros([tokens, rows], tl.float32)
    wait(overlaps)
    for first in tl.range(0, share, columns, num_stages=stages):
        column = piece * share + first + tl.arange(0, columns)
        has_input, has_weight = has_token[:, None], has_row[None, :]
        if not is_whole:
            has_input &= (column < inputs)[None, :]
            has_weight &= (column < inputs)[:, None]
        given = tl.load(x + token[:, None] * inputs + column[None, :], mask=has_input, other=0.0)
        at = weight + row[None, :].to(tl.int64) * inputs + column[:, None]
        factor = tl.load(at, mask=has_weight, other=0.0)
        total = tl.dot(given, factor, total, input_precision="ieee")
    if has_bias:  # noqa: SIM102 - decided when it is compiled
        if piece == 0:
            total += tl.load(bias + row, mask=has_row, other=0.0).to(tl.float32)[None, :]
    place = (piece * count + token)[:, None].to(tl.int64) * outputs + row[None, :]
    tl.store(y + place, total, mask=has_token[:, None] & has_row[None, :])


@triton.jit
def _multiply(
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
    count,
    outputs,
    projections: tl.constexpr,
    inputs: tl.constexpr,
    tokens: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    pieces: tl.constexpr,
    stages: tl.constexpr,
    a_rows: tl.constexpr,
    a_columns: tl.constexpr,
    parts: tl.constexpr,
    has_bias: tl.constexpr,
    has_lora: tl.constexpr,
    overlaps: tl.constexpr,
):
    begin_early(overlaps)
    number = tl.program_id(0)
    programs = tl.cdiv(outputs, rows) * pieces
    if number < programs:
        _outputs(
            x,
            weight,
            bias,
            y,
            number,
            count,
            outputs,
            inputs,
            tokens,
            rows,
            columns,
            pieces,
            stages,
            has_bias,
            # Beside adapters it took 0.5 % longer: there memory has enough to do.
            overlaps and not has_lora,
            overlaps,
        )
    elif has_lora:
        token, part = (number - programs) // parts, (number - programs) % parts
        a, rank = factors(token, addresses, ranks, stride, offset, x)
        shrink_tile(
            x,
            inputs,
            out,
            out_stride,
            token + tl.arange(0, 1),
            tl.arange(0, 1) == 0,
            a,
            rank,
            part,
            projections,
            inputs,
            a_rows,
            a_columns,
            parts,
            overlaps,
        )


def can_multiply(step: Step, dtype: torch.dtype) -> bool:
    """Whether :func:`multiply` is the quickest way for a step of single tokens.

    With fewer tokens than :data:`LEAST` or more than :data:`TOKENS` libraries are, and on GPUs
    whose kernels cannot begin early, or with less memory in a multiprocessor.
    """
    is_able = LEAST <= step.count <= TOKENS and dtype.itemsize == NARROW
    return is_able and overlaps(step) and _room(step.tokens.device) >= NEEDED


@cache
def _room(device: torch.device) -> int:
    """Bytes of its multiprocessor's memory that a program may have."""
    properties = triton.runtime.driver.active.utils.get_device_properties(device.index or 0)
    return int(properties["max_shared_mem"])


def multiply(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    step: Step,
    *,
    offset: int,
    projections: int,
    out: torch.Tensor | None,
    in_pieces: bool,
) -> torch.Tensor:
    """Up to :data:`TOKENS` tokens; see :meth:`server.engine.cuda.step.Kernels.project`."""
    (count, inputs), outputs = x.shape, weight.shape[0]
    cut = cut_for(outputs, in_pieces=in_pieces, has_adapters=out is not None)
    shape = (cut.pieces, count, outputs) if in_pieces else (count, outputs)
    dtype = torch.float32 if in_pieces else x.dtype
    y = torch.empty(shape, dtype=dtype, device=x.device)
    # Each number of parts is a kernel of its own, so all sizes without adapters are the same one.
    parts = 0 if out is None else min(MOST_PARTS, A_PROGRAMS // count)
    is_early = overlaps(step)
    _multiply[(triton.cdiv(outputs, cut.rows) * cut.pieces + count * parts,)](
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
        count,
        outputs,
        projections,
        inputs,
        TOKENS,
        cut.rows,
        COLUMNS,
        cut.pieces,
        cut.stages,
        A_ROWS,
        min(A_COLUMNS, triton.next_power_of_2(inputs)),
        parts,
        bias is not None,
        out is not None,
        is_early,
        num_warps=WARPS,
        **early(is_early),
    )
    return y
