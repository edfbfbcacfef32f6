"""A projection with its LoRA where a GPU computes in bf16: as few operations as its formula has.

A launch costs the host 9 µs and more, and a step of few tokens is made of little else. So the
factors, which are kept and trained in fp32, are rounded to bf16 once a forward and all together
(:class:`Rounded`); the scale is part of the products that have the rank's few columns; and what
LoRA adds is added by the product that makes it.

Products take bf16 and sum in fp32, on tensor cores, which fp32 factors have no use of. These are
the numbers of PEFT under torch's bf16 autocast, with which transformers and TRL train, with less
rounding: not of what LoRA adds before it is added, and none of the factors' gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

from training.nn.frozen import Recomputed, expanded
from training.nn.trial import agrees


def is_possible(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether projections of ``dtype`` on ``device`` are computed here."""
    return device.type == "cuda" and dtype is torch.bfloat16 and is_right(device)


@cache
def is_right(device: torch.device) -> bool:
    """Whether ``device`` makes of them what their formula says, which is tried once a process."""
    generator = torch.Generator().manual_seed(0)
    sizes = (24, 32), (8, 32), (16, 8), (16, 32)
    x, a, b, weight = (torch.randn(size, generator=generator).bfloat16() for size in sizes)

    def played(where: torch.device, of: Any) -> list[torch.Tensor]:
        own = [x.to(where), a.float().to(where), b.float().to(where)]
        inputs = [one.detach().requires_grad_() for one in own]
        found = of(weight.to(where), *inputs)
        return [found, *torch.autograd.grad(found.float().square().sum(), inputs)]

    def here(weight: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        # Nothing may be drawn from torch's seed, which is the training's.
        base = torch.nn.utils.skip_init(torch.nn.Linear, 32, 16, bias=False)
        base.weight = torch.nn.Parameter(weight, requires_grad=False)
        a, b = (one.detach().bfloat16() for one in given[1:])
        frozen = Frozen(a, b, base, 2.0, 0.0, "no")
        found: torch.Tensor = Bf16Projection.apply(*given, frozen)
        return found

    def formula(weight: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        wide = given[0].float()
        return wide @ weight.float().T + 2.0 * (wide @ given[1].T) @ given[2].T

    cpu = torch.device("cpu")
    return agrees("LoRA in bf16", lambda: played(device, here), lambda: played(cpu, formula))


class Rounded:
    """The trained factors in bf16, as they were when the decoder's last forward began.

    Only in that forward, or where its layers are computed again, do they stand for the factors:
    nothing tells reliably that an optimiser has changed those.
    """

    def __init__(self, decoder: torch.nn.Module, factors: Sequence[torch.nn.Parameter]) -> None:
        self.is_current = False
        self._factors: list[torch.Tensor] = list(factors)
        self._rounded: dict[int, torch.Tensor] = {}
        decoder.register_forward_pre_hook(self._begin)
        decoder.register_forward_hook(self._end, always_call=True)

    def of(self, factor: torch.Tensor, *, is_again: bool) -> torch.Tensor:
        """``factor`` in bf16, detached. ``is_again``: layers are being computed again."""
        if (self.is_current or is_again) and id(factor) in self._rounded:
            return self._rounded[id(factor)]
        return factor.detach().bfloat16()

    def _begin(self, decoder: torch.nn.Module, _given: Any) -> None:
        given = next(decoder.parameters())
        if not self._factors or not is_possible(given.device, given.dtype):
            return
        sizes = [factor.numel() for factor in self._factors]
        # new each time: the last ones may still be wanted for a gradient
        places = torch.empty(sum(sizes), dtype=torch.bfloat16, device=given.device).split(sizes)
        pairs = zip(self._factors, places, strict=True)
        self._rounded = {id(factor): place.view_as(factor) for factor, place in pairs}
        rounded = list(self._rounded.values())
        with torch.no_grad():
            torch._foreach_copy_(rounded, self._factors)  # as torch's optimisers do
        self.is_current = True

    def _end(self, *_given: Any) -> None:
        self.is_current = False


class Frozen(NamedTuple):
    """What of a projection gets no gradient.

    ``a`` ([r, in]) and ``b`` ([out, r]) in bf16, the base's layer, LoRA's scale, and the ``share``
    of the input that is dropped.
    """

    a: torch.Tensor
    b: torch.Tensor
    base: Any
    scale: float
    share: float
    recomputed: Recomputed


class Bf16Projection(torch.autograd.Function):
    """``base(x) + scale * dropout(x) Aᵀ Bᵀ`` with gradients for ``x``, ``A`` and ``B``.

    ``x``: [..., in], bf16; the factors that get the gradients are fp32, and ``frozen`` has them in
    bf16.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, _a: torch.Tensor, _b: torch.Tensor, frozen: Frozen
    ) -> torch.Tensor:
        """Where nobody will read the result, it is left undefined."""
        a, b, base, scale, share, recomputed = frozen
        rows, kept = x.reshape(-1, x.shape[-1]), None
        low = rows
        if share:
            kept = torch.empty(rows.shape, dtype=torch.bool, device=x.device).bernoulli_(1 - share)
            scale /= 1 - share
            low = rows * kept
        inner = _scaled(low, a.T, scale)
        ctx.save_for_backward(rows, kept, inner, a, b)
        ctx.base, ctx.scale, ctx.shape = base, scale, x.shape
        if recomputed == "unread":
            return x.new_empty(*x.shape[:-1], len(b))
        out: torch.Tensor = base(x)
        out.view(-1, out.shape[-1]).addmm_(inner, b.T)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, kept, inner, a, b = ctx.saved_tensors
        given = gradients[0].reshape(-1, len(b))
        through = _scaled(given, b, ctx.scale)
        of_a = _in_fp32(through.T, rows if kept is None else rows * kept)
        of_b = _in_fp32(given.T, inner)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = given @ expanded(ctx.base).to(given.dtype)
            if kept is None:
                of_x.addmm_(through, a)
            else:
                of_x.addcmul_(through @ a, kept)
            of_x = of_x.view(ctx.shape)
        return of_x, of_a, of_b, None


def _scaled(one: torch.Tensor, other: torch.Tensor, scale: float) -> torch.Tensor:
    """``scale * one @ other`` in one operation, rounded once."""
    return torch.addmm(one.new_empty(()), one, other, beta=0, alpha=scale)


def _in_fp32(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """``one @ other``, [m, n], of bf16 factors, not rounded to bf16."""
    if one.device.type == "cpu":  # torch has it for GPUs alone
        return one.float() @ other.float()
    return torch.mm(one, other, out_dtype=torch.float32)
