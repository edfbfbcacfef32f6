"""Linear layers of quantised weights in torch: on GPUs, and on CPUs without native kernels.

``int8`` computes the same whole numbers as the native kernels: weights of one scale an output,
inputs of one scale a row, both symmetric, summed exactly. ``nf4`` is bitsandbytes'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad

WEIGHT_LIMIT = 127
# An input is two signed bytes: 128 * high + low, with low in [-64, 63].
INPUT_LIMIT = 16_256
INT32_MOST = 2**31 - 1
# What is smaller counts as zero: its reciprocal would overflow.
LEAST = 1e-30
# torch's integer product on GPUs wants more than 16 rows, and multiples of 8 in all else.
GPU_ROWS, GPU_UNIT = 32, 8


@dataclass(frozen=True, slots=True)
class Int8Linear:
    """``codes``: int8 [outputs, inputs], zeros up to multiples of 8; ``scales``: fp32 [outputs]."""

    codes: torch.Tensor
    scales: torch.Tensor
    bias: torch.Tensor | None = None

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor | None) -> Int8Linear:
        """Quantise ``weight`` [outputs, inputs]."""
        weight = weight.float()
        most = weight.abs().amax(dim=1)
        factors = torch.where(most >= LEAST, WEIGHT_LIMIT / most, 0.0)
        codes = (weight * factors.unsqueeze(1)).round_().to(torch.int8)
        below, beside = (-size % GPU_UNIT for size in codes.shape)
        return cls(pad(codes, (0, beside, 0, below)), most / WEIGHT_LIMIT, bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        whole, scales = quantised_rows(x.float())
        sums = self._product(whole)
        y = sums.float() * self.scales * scales
        y = y.to(x.dtype)
        return y if self.bias is None else y + self.bias

    def _product(self, whole: torch.Tensor) -> torch.Tensor:
        """The exact int32 product of int32 rows."""
        rows, inputs = whole.shape
        beside = self.codes.shape[1] - inputs
        below = max(0, GPU_ROWS - rows) if whole.is_cuda else 0
        if beside or below:
            whole = pad(whole, (0, beside, 0, below))
        high = (whole + 64) >> 7
        low = whole - (high << 7)
        weight = self.codes.T
        product = torch._int_mm(high.to(torch.int8), weight) << 7  # noqa: SLF001 - torch has no other
        product += torch._int_mm(low.to(torch.int8), weight)  # noqa: SLF001 - same
        return product[:rows, : len(self.scales)]


def quantised_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of fp32 ``x`` [T, inputs] as int32, and their scales [T, 1].

    A row that holds no number, or an infinite one, gets a scale that is none, and so its results.
    """
    limit = min(INPUT_LIMIT, INT32_MOST // (WEIGHT_LIMIT * x.shape[1]))
    most = x.abs().amax(dim=1, keepdim=True)
    is_usable = most.isfinite() & (most >= LEAST)
    factors = torch.where(is_usable, limit / most, 0.0)
    scales = torch.where(is_usable, most / limit, torch.where(most < LEAST, 0.0, torch.nan))
    return (x * factors).nan_to_num_(0.0).round_().to(torch.int32), scales


@dataclass(frozen=True, slots=True)
class Nf4Linear:
    """A weight in blocks of 64 four-bit codes, as bitsandbytes keeps and multiplies it."""

    codes: torch.Tensor
    state: Any
    bias: torch.Tensor | None = None

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor | None) -> Nf4Linear:
        """Quantise ``weight`` [outputs, inputs]."""
        from bitsandbytes.functional import quantize_4bit

        codes, state = quantize_4bit(weight.contiguous(), blocksize=64, quant_type="nf4")
        return cls(codes, state, bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        from bitsandbytes import matmul_4bit

        return matmul_4bit(x, self.codes.t(), quant_state=self.state, bias=self.bias)
