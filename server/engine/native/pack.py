"""Weights in the layouts of ``gemm.h``: panels of sixteen outputs, in any of the formats."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import torch

from server.engine.native.structs import FORMATS, HALF_PANEL, PANEL, LinearStruct


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A weight [outputs, inputs] as the kernels read it. ``scales``: of int8 only."""

    weight_format: str
    outputs: int
    inputs: int
    codes: torch.Tensor
    scales: torch.Tensor | None
    bias: torch.Tensor | None

    @property
    def nbytes(self) -> int:
        held = (self.codes, self.scales, self.bias)
        return sum(tensor.nbytes for tensor in held if tensor is not None)

    def struct(self) -> LinearStruct:
        """The C view; valid as long as this object lives."""
        return LinearStruct(
            format=FORMATS[self.weight_format],
            outputs=self.outputs,
            inputs=self.inputs,
            panels=-(-self.outputs // PANEL),
            codes=self.codes.data_ptr(),
            scales=None if self.scales is None else self.scales.data_ptr(),
            bias=None if self.bias is None else self.bias.data_ptr(),
        )


def anywhere(size: int) -> torch.Tensor:
    """[size] uint8."""
    return torch.empty(size, dtype=torch.uint8)


def pack(
    library: ctypes.CDLL,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    weight_format: str,
    take: Callable[[int], torch.Tensor] = anywhere,
) -> PackedLinear:
    """``weight``: [outputs, inputs] of any float type, rows in the order of the panels.

    ``take`` gives memory for it, so many bytes.

    Raises:
        MemoryError: there is none left for it.
    """
    outputs, inputs = weight.shape
    weight = (weight if weight.dtype == torch.bfloat16 else weight.float()).contiguous()
    number = FORMATS[weight_format]
    size = library.lccc_packed_bytes(number, outputs, inputs)
    codes = take(size)
    scales = torch.empty(-(-outputs // PANEL) * PANEL) if weight_format == "int8" else None
    is_short = library.lccc_pack(
        number,
        weight.data_ptr(),
        weight.dtype == torch.bfloat16,
        outputs,
        inputs,
        codes.data_ptr(),
        None if scales is None else scales.data_ptr(),
        torch.get_num_threads(),
    )
    if is_short:
        raise MemoryError("no memory left to pack a weight")
    bias = None if bias is None else padded(bias.float(), PANEL).contiguous()
    return PackedLinear(weight_format, outputs, inputs, codes, scales, bias)


def interleaved(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Eight rows of ``gate``, eight of ``up``, and so on: a panel holds both of a column."""
    halves = [padded(each, HALF_PANEL).unflatten(0, (-1, HALF_PANEL)) for each in (gate, up)]
    return torch.stack(halves, dim=1).flatten(0, 2)


def panels_of(matrix: torch.Tensor) -> torch.Tensor:
    """[outputs, inputs] as [panels, inputs, 16], the last panel filled up with zeros."""
    return padded(matrix, PANEL).unflatten(0, (-1, PANEL)).transpose(1, 2).contiguous()


def padded(rows: torch.Tensor, unit: int) -> torch.Tensor:
    """``rows`` with zero rows after them, up to a multiple of ``unit``."""
    extra = -rows.shape[0] % unit
    return rows if not extra else torch.cat([rows, rows.new_zeros(extra, *rows.shape[1:])])
