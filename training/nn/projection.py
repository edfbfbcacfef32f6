"""The projections that are trained: a frozen base product and LoRA's in one differentiable step.

PEFT writes ``base(x) + scale * B(A(dropout(x)))`` as eight operations, each with a tensor of its
own in memory until the gradient is known. Here they are one: the product is added to in place, only
``x``, what dropout keeps of it (a byte each) and ``A x`` are held, and the base's weights are
expanded again when the gradient is wanted. PEFT's modules stay what they are: it saves, loads,
merges and switches off adapters as ever. What GPUs compute in bf16 is
:mod:`training.nn.bf16_projection`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from threading import local
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear

from training.nn import bf16_projection
from training.nn.bf16_projection import Bf16Projection, Frozen, Rounded
from training.nn.dropping import kept_positions
from training.nn.frozen import Recomputed, expanded

if TYPE_CHECKING:
    from peft import PeftModel

# In these families a layer ends with `residual + down_proj(…)`.
_ENDS_WITH_DOWN = ("qwen3", "qwen2", "llama")
_recomputing = local()


def fuse_projections(model: PeftModel, name: str) -> int:
    """Let plain LoRA's projections of adapter ``name`` compute as here; how many there are.

    Those that are quantised to int8, and those of DoRA and AdaLoRA, stay with PEFT.
    """
    from peft.tuners.lora import LoraLayer

    if model.peft_config[name].peft_type != "LORA":
        return 0
    core = model.get_base_model()
    fused = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, LoraLayer) and _is_plain(module, name)
    }
    factors = [factor[name].weight for one in fused.values() for factor in (one.lora_A, one.lora_B)]
    rounded = Rounded(core.model, factors)
    for path, module in fused.items():
        is_last = path.endswith(".down_proj") and core.config.model_type in _ENDS_WITH_DOWN
        of_peft = type(module).forward
        module.forward = partial(_forward, module, name, of_peft, rounded, is_last)
    return len(fused)


def recomputation() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of a forward and of its recomputation; torch's ``context_fn``."""
    return nullcontext(), _while_recomputing()


@contextmanager
def _while_recomputing() -> Iterator[None]:
    before = getattr(_recomputing, "is_on", False)
    _recomputing.is_on = True
    try:
        yield
    finally:
        _recomputing.is_on = before


def _is_plain(module: Any, name: str) -> bool:
    import bitsandbytes

    base = module.get_base_layer()
    known = isinstance(base, bitsandbytes.nn.Linear4bit) or type(base) is torch.nn.Linear
    is_ours = name in module.lora_A and name not in module.lora_variant
    return known and is_ours and not module.lora_bias[name]


def _forward(
    module: Any,
    name: str,
    of_peft: Any,
    rounded: Rounded,
    is_last: bool,
    x: torch.Tensor,
    *args: Any,
    **kwargs: Any,
) -> torch.Tensor:
    """What the module gives for ``x``: [..., in] to [..., out]."""
    is_alone = module.active_adapters == [name] and not (module.disable_adapters or module.merged)
    if args or kwargs or not is_alone:
        result: torch.Tensor = of_peft(module, x, *args, **kwargs)
        return result
    dropout = module.lora_dropout[name]
    share = dropout.p if module.training and isinstance(dropout, torch.nn.Dropout) else 0.0
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    recomputed = _recomputed(is_last=is_last)
    base, scale = module.get_base_layer(), module.scaling[name]
    if not bf16_projection.is_possible(x.device, x.dtype):
        return _Projection.apply(x, a, b, base, scale, share, recomputed)
    is_again = recomputed != "no"
    in_bf16 = rounded.of(a, is_again=is_again), rounded.of(b, is_again=is_again)
    return Bf16Projection.apply(x, a, b, Frozen(*in_bf16, base, scale, share, recomputed))


def _recomputed(*, is_last: bool) -> Recomputed:
    if not getattr(_recomputing, "is_on", False):
        return "no"
    return "unread" if is_last else "read"


class _Projection(torch.autograd.Function):
    """``base(x) + scale * dropout(x) Aᵀ Bᵀ`` with gradients for ``x``, ``A`` and ``B``."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        base: Any,
        scale: float,
        share: float,
        recomputed: Recomputed,
    ) -> torch.Tensor:
        """Where nobody will read the result, it is left undefined."""
        rows = x.reshape(-1, x.shape[-1])
        low, kept = rows.to(a.dtype), None
        if share:
            kept, scale = kept_positions(low.shape, share, low.device), scale / (1 - share)
            low = low * kept
        inner = low @ a.T
        ctx.save_for_backward(rows, kept, inner, a, b)
        ctx.base, ctx.scale, ctx.shape = base, scale, x.shape
        ctx.weight = None
        if recomputed == "unread":
            return x.new_empty(*x.shape[:-1], len(b))
        if recomputed == "read" and x.device.type == "cpu":  # the gradient comes next, and needs it
            ctx.weight = expanded(base)
            out = linear(x, ctx.weight, base.bias)
        else:
            out = base(x)
        flat = out.view(-1, out.shape[-1])
        if out.dtype == b.dtype:
            flat.addmm_(inner, b.T, alpha=scale)
        else:
            flat.add_((inner @ b.T).mul_(scale).to(out.dtype))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, kept, inner, a, b = ctx.saved_tensors
        given = gradients[0].reshape(-1, len(b))
        wide = given.to(b.dtype)
        through = (wide @ b).mul_(ctx.scale)
        low = rows.to(a.dtype)
        if kept is not None:
            low = low * kept
        of_a, of_b = through.T @ low, (wide.T @ inner).mul_(ctx.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            weight = expanded(ctx.base) if ctx.weight is None else ctx.weight
            of_x = given @ weight.to(given.dtype)
            of_lora = through @ a
            if kept is not None:
                of_lora.mul_(kept)
            of_x = of_x.add_(of_lora.to(of_x.dtype)).view(ctx.shape)
        return of_x, of_a, of_b, None, None, None, None
