"""RMS norms in one operation on GPUs.

transformers writes a norm as eight operations, and its gradient as a dozen; Qwen3 has four in a
layer, and they made a quarter of what a training step launches. torch's own is one kernel, and two
for the gradient. It also multiplies with the weight before it rounds.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

# By their class in transformers: norms of other families add one to the weight, or subtract a mean.
_KNOWN = ("Qwen3RMSNorm", "Qwen2RMSNorm", "LlamaRMSNorm")


def fuse_norms(model: torch.nn.Module) -> int:
    """Let the RMS norms in ``model`` compute as here where that is possible; how many there are."""
    norms = [module for module in model.modules() if type(module).__name__ in _KNOWN]
    for norm in norms:
        norm.forward = partial(_forward, norm, norm.forward)
    return len(norms)


def is_possible(hidden: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether torch has a kernel for these. On CPUs it has not, and transformers' bits are kept."""
    return hidden.is_cuda and hidden.dtype is weight.dtype


def _forward(norm: Any, of_transformers: Any, hidden: torch.Tensor) -> torch.Tensor:
    """``hidden``, [..., width], of unit mean square, times the weight."""
    if not is_possible(hidden, norm.weight):
        kept: torch.Tensor = of_transformers(hidden)
        return kept
    width = norm.weight.shape
    return torch.nn.functional.rms_norm(hidden, width, norm.weight, norm.variance_epsilon)
