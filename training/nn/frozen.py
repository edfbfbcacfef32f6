"""The frozen base of a projection: its weights, expanded where they are quantised."""

from __future__ import annotations

from typing import Any, Literal

import torch

# Whether this is a layer's second forward, and if so, whether anything reads what comes of it.
Recomputed = Literal["no", "read", "unread"]


def expanded(base: Any) -> torch.Tensor:
    """The weights of a linear layer, [out, in], expanded where they are NF4."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        weight: torch.Tensor = base.weight
        return weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(base.weight.data, state)
