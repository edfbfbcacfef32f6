"""Rotary positions in few operations on GPUs.

transformers turns each of a layer's queries and keys with five operations, and their gradients take
eight; here it is three each way, and rounding happens after the sum.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

_NAME = "apply_rotary_pos_emb"
# Families that turn the whole width of a head, its halves against each other.
_KNOWN = tuple(f"transformers.models.{one}.modeling_{one}" for one in ("qwen3", "qwen2", "llama"))
_Both = tuple[torch.Tensor, torch.Tensor]


def fuse_rotary(model: torch.nn.Module) -> bool:
    """Let models of ``model``'s family turn as here where that is possible; whether it is known.

    Attention finds the function in transformers' module of the family, so it is exchanged there,
    for this process. What is not possible here goes to transformers' own, as before.
    """
    name = type(model).__module__
    if name not in _KNOWN:
        return False
    family = sys.modules[name]
    current = getattr(family, _NAME)
    if not isinstance(current, partial):
        setattr(family, _NAME, partial(_apply, current))
    return True


def is_possible(states: torch.Tensor, cos: torch.Tensor) -> bool:
    """Whether these are on a GPU, in one format. On CPUs transformers' bits are kept."""
    return states.is_cuda and states.dtype is cos.dtype


def _apply(
    of_transformers: Callable[..., _Both],
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    unsqueeze_dim: int = 1,
) -> _Both:
    """Queries and keys, [batch, heads, T, width], turned by ``cos`` and ``sin``, [batch, T, width].

    The interface is transformers'; ``unsqueeze_dim`` is where the heads are.
    """
    if not is_possible(query, cos):
        return of_transformers(query, key, cos, sin, unsqueeze_dim)
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _Turn.apply(query, cos, sin), _Turn.apply(key, cos, sin)


class _Turn(torch.autograd.Function):
    """``x * cos + (-x₂, x₁) * sin`` (Su et al. 2021), of the halves of the last dimension."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        turned = x * cos
        for to, of, sign in ((0, 1, -1), (1, 0, 1)):
            _half(turned, to).addcmul_(_half(x, of), _half(sin, to), value=sign)
        return turned

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        given, (cos, sin) = gradients[0], ctx.saved_tensors
        back = given * cos
        for to, of, sign in ((0, 1, 1), (1, 0, -1)):
            _half(back, to).addcmul_(_half(given, of), _half(sin, of), value=sign)
        return back, None, None


def _half(tensor: torch.Tensor, which: int) -> torch.Tensor:
    """The first half of the last dimension, or the second."""
    width = tensor.shape[-1] // 2
    return tensor[..., which * width : (which + 1) * width]
