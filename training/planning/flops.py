"""The arithmetic of a training by its shapes, in floating-point operations: a multiply-add is two.

Through a frozen weight goes one product forward and one backward, through LoRA's factors one more
for their own gradients, and the LM head is needed at target tokens only. Attention within short
dialogues is left out: at LCCC's lengths it is less than a hundredth of the rest.
"""

from __future__ import annotations

from adapters.base import Architecture
from adapters.manifest import PROJECTIONS


def linear_parameters(architecture: Architecture) -> int:
    """The weights of all layers' projections; embedding and head are not among them."""
    shapes = map(architecture.projection_shape, PROJECTIONS)
    return architecture.layers * sum(inputs * outputs for inputs, outputs in shapes)


def training_flops(architecture: Architecture, lora: int, *, tokens: int, targets: int) -> int:
    """What training on ``tokens`` of which ``targets`` bear a loss takes at least.

    ``lora`` is the number of LoRA's parameters. Nothing is computed twice, as gradient
    checkpointing would have it; this is what a utilisation of the hardware (MFU: Chowdhery et al.
    2022, appendix B) is a share of.
    """
    body = 4 * linear_parameters(architecture) + 6 * lora
    head = 4 * architecture.vocab_size * architecture.hidden_size
    return tokens * body + targets * head


def recomputed_flops(architecture: Architecture, lora: int, *, tokens: int) -> int:
    """What gradient checkpointing computes again: one forward through the layers."""
    return tokens * 2 * (linear_parameters(architecture) + lora)
