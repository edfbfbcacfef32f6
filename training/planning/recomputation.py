"""Gradient checkpointing: how many layers compute their activations again, and why so many.

A layer that keeps what its gradient needs takes much memory, and one that keeps its input alone
takes a second forward. Which of the two it does changes no bit of the result, so that each process
of a training, and each part of one that is resumed, decides for itself, once, before it loads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from training.memory import memory_left
from training.planning.flops import recomputed_flops, training_flops
from training.planning.footprint import Footprint
from training.planning.plan import Plan
from training.recipe import GradientCheckpointing

# Of the memory that is free. A GPU is the training's own, and what does not fit is tried again with
# less; a machine's memory is others' too, and whatever is short of it swaps, or is killed.
GPU_SHARE = 0.8
CPU_SHARE = 0.5
SETTING = "training.gradient_checkpointing"


@dataclass(frozen=True)
class Recomputation:
    """The first ``layers`` of all ``of`` compute their activations again.

    ``setting`` is the recipe's. In bytes, estimated for the largest forward: ``memory`` is what it
    takes so, by purpose, ``needed_with`` and ``needed_without`` what it would if all or none did,
    and ``usable`` what may be used. ``times`` is how many times as much arithmetic a step takes. It
    ``has_given_way`` where all do because a step did not fit otherwise.
    """

    setting: GradientCheckpointing
    layers: int
    of: int
    memory: dict[str, int]
    needed_with: int
    needed_without: int
    usable: int
    times: float
    has_given_way: bool = False

    @classmethod
    def decided(
        cls,
        plan: Plan,
        device: torch.device,
        *,
        free: int | None = None,
        neighbours: int = 1,
    ) -> Recomputation:
        """What the recipe says; by ``auto``, as few layers as fit into what may be used.

        ``free`` bytes are left on ``device``, by default as things stand. On a CPU as many
        processes as ``neighbours`` divide them among themselves.
        """
        if free is None:
            free = memory_left(device)
        usable = int(free * GPU_SHARE) if device.type == "cuda" else int(free * CPU_SHARE)
        usable //= 1 if device.type == "cuda" else neighbours
        footprint, many = Footprint.of(plan, device), plan.base.architecture.layers
        setting = plan.recipe.training.gradient_checkpointing
        needed = [footprint.total(layers) for layers in range(many + 1)]
        if setting == "auto":
            layers = next((at for at, size in enumerate(needed) if size <= usable), many)
        else:
            layers = many if setting else 0
        times = arithmetic(plan, layers)
        memory = footprint.bytes_of(layers)
        return cls(setting, layers, many, memory, needed[-1], needed[0], usable, times)

    @property
    def needed(self) -> int:
        """The sum of ``memory``."""
        return sum(self.memory.values())

    @property
    def is_notable(self) -> bool:
        """Whether it costs whoever trains something, or might."""
        return self.layers > 0 or self.needed > self.usable

    def given_way(self, plan: Plan) -> Recomputation:
        """That of all layers, for a step that did not fit into the memory."""
        return replace(
            self,
            layers=self.of,
            times=arithmetic(plan, self.of),
            has_given_way=True,
        )

    @property
    def sentence(self) -> str:
        """What was decided, and why, for whoever trains."""
        if self.has_given_way:
            return f"A step did not fit into the memory and was made anew. {self._state}."
        if self.setting == "auto":
            return f"{self._state}; {self._fits}"
        return f"{self._state}, as {SETTING} says; {self._fits}{self._hint}"

    @property
    def _state(self) -> str:
        if not self.layers:
            return f"The activations of all {self.of} layers are kept"
        which = f"all {self.of}" if self.layers == self.of else f"{self.layers} of {self.of}"
        return (
            f"The activations of {which} layers are computed again, "
            f"{self.times:.2f} times the arithmetic and the same result"
        )

    @property
    def _fits(self) -> str:
        sizes = f"{_gib(self.needed)} of memory, and {_gib(self.usable)} may be used"
        is_short = "" if self.needed <= self.usable else ": it may not suffice"
        return f"a step takes about {sizes}{is_short}."

    @property
    def _hint(self) -> str:
        """What another setting would change."""
        if self.setting is True and self.needed_without <= self.usable:
            saved = f"without it about {_gib(self.needed_without)} would be used"
            return f" It is not needed here: {saved}. `--set {SETTING}=auto` is quicker."
        if self.setting is False and self.needed > self.usable:
            return f" `--set {SETTING}=auto` computes as many again as are needed."
        return ""


def arithmetic(plan: Plan, layers: int) -> float:
    """How many times the least arithmetic a step takes with ``layers`` that compute again."""
    report, lora, shape = plan.report, plan.trainable_parameters, plan.base.architecture
    least = training_flops(shape, lora, tokens=report.tokens, targets=report.target_tokens)
    again = recomputed_flops(shape, lora, tokens=report.tokens) * layers / shape.layers
    return (least + again) / least


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
