"""What dropout keeps, from few random bits."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

_BITS = 16
_PER_WORD = 64 // _BITS


def kept_positions(shape: Sequence[int], share: float, device: torch.device) -> torch.Tensor:
    """A bool tensor of ``shape``, each false with probability ``share``, by torch's generator.

    torch's own Bernoulli numbers take a 64-bit draw each from a CPU's one generator, which made an
    eighth of a training step of Qwen3-0.6B's shape. Here a draw serves four positions, so that
    ``share`` is met to 1/131,072. On GPUs torch's numbers cost nothing, and are taken.
    """
    if device.type != "cpu":
        return torch.rand(*shape, device=device) >= share
    many = prod(shape)
    words = torch.empty(-(-many // _PER_WORD), dtype=torch.int64, device=device)
    lots = words.random_(-(2**63), None).view(torch.int16)[:many]
    most = 2 ** (_BITS - 1)
    below = min(round(share * 2**_BITS) - most, most - 1)
    return (lots >= below).view(*shape)
