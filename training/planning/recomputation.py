"""Gradient checkpointing: what computing activations again costs, and whether that is needed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import psutil
import torch

from training.planning.flops import recomputed_flops, training_flops
from training.planning.plan import Plan

# What is left of a device's memory for all that the estimate does not know.
FITTING_SHARE = 0.7


@dataclass(frozen=True)
class Recomputation:
    """What gradient checkpointing means for one training: sizes in bytes, estimated.

    ``times`` is how many times as much arithmetic a step takes with it.
    """

    times: float
    memory_with: int
    memory_without: int

    @classmethod
    def of(cls, plan: Plan) -> Recomputation:
        """For the largest forward that ``plan`` allows."""
        report, lora = plan.report, plan.trainable_parameters
        shape = plan.base.architecture
        least = training_flops(shape, lora, tokens=report.tokens, targets=report.target_tokens)
        again = recomputed_flops(shape, lora, tokens=report.tokens)
        with_it, without = (
            sum(_switched(plan, on).memory_estimate(plan.tokens_per_forward).values())
            for on in (True, False)
        )
        return cls((least + again) / least, with_it, without)

    def sentence(self, plan: Plan, memory: int) -> str | None:
        """A hint where it is on and not needed in ``memory`` bytes; else ``None``."""
        is_on = plan.recipe.training.gradient_checkpointing
        if not is_on or self.memory_without > FITTING_SHARE * memory:
            return None
        return (
            f"Gradient checkpointing takes {self.times:.2f} times the arithmetic and is not needed "
            f"here: without it about {_gib(self.memory_without)} of {_gib(memory)} would be used. "
            "`--set training.gradient_checkpointing=false` is quicker, with the same result."
        )


def device_memory(device: torch.device) -> int:
    """Bytes that a training could take on ``device`` as things stand."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_reserved(device)
    return int(psutil.virtual_memory().available)


def _switched(plan: Plan, on: bool) -> Plan:
    training = msgspec.structs.replace(plan.recipe.training, gradient_checkpointing=on)
    return replace(plan, recipe=msgspec.structs.replace(plan.recipe, training=training))


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
