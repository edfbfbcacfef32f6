"""AdaLoRA: projections that compete for ranks while they train (Zhang et al. 2023).

PEFT holds the layers and decides which ranks go; here is what its trainer would do beside: the
penalty that keeps A and B orthogonal, the allocation after each step, and the state of it that a
checkpoint needs. What comes of it is written as plain LoRA, which it equals exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from training.recipe import AdaLora, Lora

if TYPE_CHECKING:
    from peft import AdaLoraConfig, PeftModel

NAME = "default"  # of the adapter, as PEFT calls it
FACTORS = ("lora_A", "lora_B", "lora_E")
_AVERAGES = ("exp_avg_ipt", "exp_avg_unc")
_TINY = 1e-5  # PEFT divides by the number of ranks and this


def adalora_config(lora: Lora, adalora: AdaLora, initial_r: int, total_steps: int) -> AdaLoraConfig:
    """PEFT's configuration; it counts the steps before ranks are taken, and those after."""
    from peft import AdaLoraConfig

    return AdaLoraConfig(
        init_r=initial_r,
        target_r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
        total_step=total_steps,
        tinit=round(adalora.start * total_steps),
        tfinal=total_steps - max(1, round(adalora.end * total_steps)),
        deltaT=adalora.every,
        orth_reg_weight=adalora.orthogonality,
    )


class RankAllocation:
    """The competition for ranks in ``model``; without AdaLoRA it is off, and nothing happens."""

    def __init__(self, model: PeftModel) -> None:
        config = model.peft_config[NAME]
        self._tuner: Any = model.base_model if config.peft_type == "ADALORA" else None
        self._config = config

    @property
    def is_on(self) -> bool:
        return self._tuner is not None

    def penalty(self) -> torch.Tensor:
        """How far A's rows and B's columns are from orthogonal (mean Frobenius norm), weighted."""
        distances = []
        for name, factor in self._factors():
            if "lora_E" in name:
                continue
            product = factor @ factor.T if "lora_A" in name else factor.T @ factor
            identity = torch.eye(len(product), device=product.device)
            distances.append(torch.linalg.matrix_norm(product - identity))
        return self._config.orth_reg_weight * torch.stack(distances).mean()

    def allocate(self, step: int) -> None:
        """After optimiser step ``step`` (from 1), while its gradients are there."""
        if self.is_on:
            self._tuner.update_and_allocate(step)

    def state(self) -> dict[str, Any]:
        """What the next allocation depends on, and which ranks are left."""
        if not self.is_on:
            return {}
        allocator = self._tuner.rankallocator
        return {
            **{name: dict(getattr(allocator, name)) for name in _AVERAGES},
            "rank_pattern": self._config.rank_pattern,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        if not self.is_on:
            return
        allocator = self._tuner.rankallocator
        devices = {name: factor.device for name, factor in self._factors()}
        for average in _AVERAGES:
            kept = {name: tensor.to(devices[name]) for name, tensor in state[average].items()}
            setattr(allocator, average, kept)
        averages = allocator.exp_avg_ipt.items()
        allocator.ipt = {name: torch.zeros_like(average) for name, average in averages}
        self._config.rank_pattern = state["rank_pattern"]

    def _factors(self) -> list[tuple[str, torch.nn.Parameter]]:
        """By the names that PEFT's allocator knows them by."""
        named = self._tuner.model.named_parameters()
        return [(name, one) for name, one in named if any(factor in name for factor in FACTORS)]


def plain_lora(state: dict[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """AdaLoRA's factors as LoRA's by PEFT's names, of the rank that the richest projection kept.

    ``B diag(E) A * alpha / ranks`` is ``B' A'`` with the middle and the scale taken into A; ranks
    that were taken away have an E of zero and are left out. The scale of the result is 1.
    """
    stems = sorted(name.removesuffix("lora_A") for name in state if name.endswith("lora_A"))
    kept = {stem: state[f"{stem}lora_E"].flatten().nonzero().flatten() for stem in stems}
    rank = max(1, *(len(indices) for indices in kept.values()))
    plain: dict[str, torch.Tensor] = {}
    for stem, indices in kept.items():
        first, second, middle = (state[f"{stem}{factor}"] for factor in FACTORS)
        scaled = first * middle * (alpha / (len(first) + _TINY))
        lora_a, lora_b = scaled.new_zeros(rank, first.shape[1]), second.new_zeros(len(second), rank)
        lora_a[: len(indices)] = scaled[indices]
        lora_b[:, : len(indices)] = second[:, indices]
        plain |= {f"{stem}lora_A.weight": lora_a, f"{stem}lora_B.weight": lora_b}
    return plain
