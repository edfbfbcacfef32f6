"""The optimiser's side of a training: a step from the gradients of all processes to new weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from training.data.encode import Example
from training.execution.group import ALONE, Group, Order
from training.execution.share import Share
from training.nn.adalora import RankAllocation
from training.optimizer import Paging, make_optimizer, schedule
from training.planning.plan import Plan
from training.scores.validation import Validation

if TYPE_CHECKING:
    from peft import PeftModel

ShouldStop = Callable[[], bool]


class NotFinite(ArithmeticError):
    """A loss or gradient is not a number; the message names the step and both."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """What an optimiser step measured: the summed loss of its targets in nats, and their number."""

    nll: float
    targets: int
    gradient_norm: float
    learning_rate: float


class Optimisation:
    """Optimiser, schedule, loss scale and AdaLoRA's ranks over the trained weights of ``model``.

    ``paging`` says where a paged optimiser keeps its states; ``None``: it has no choice.
    """

    def __init__(self, plan: Plan, model: PeftModel, group: Group = ALONE) -> None:
        recipe = plan.pace.recipe
        self._training = recipe.training
        self._group = group
        self._share = Share(plan, model, group)
        self.paging = Paging.of(model, recipe.training.optimizer)
        self._optimizer = make_optimizer(
            model, recipe.training, recipe.lora.plus_ratio, self.paging
        )
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._schedule = schedule(recipe.training, plan.total_steps)
        self._ranks = RankAllocation(model)
        # fp16 gradients underflow without a scale; for other dtypes the scaler does nothing
        self._scaler = torch.amp.GradScaler(
            model.device.type, enabled=model.get_base_model().dtype is torch.float16
        )
        self._one = torch.ones((), device=model.device)

    def begin(self) -> None:
        """Give all processes the weights that are here."""
        self._group.announce(Order("begin"))
        self._group.spread(self._share.parameters)

    def step(self, number: int, examples: Sequence[Example]) -> Stepped:
        """Make optimiser step ``number`` (from 0) of the plan, whose examples are ``examples``.

        Raises:
            NotFinite: the loss or the gradient is not a number; the weights are as before.
        """
        targets = sum(example.targets for example in examples)
        factor = self._schedule(number)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        # asked only where there is one: it waits for all that the GPU still has to do
        scale = self._scaler.scale(self._one).item() if self._scaler.is_enabled() else 1.0
        self._group.announce(Order("step", number, scale))
        nll = self._share.backward(number, examples, scale)
        if self._ranks.is_on:
            (scale * self._ranks.penalty()).backward()
        nll = self._group.add_up(self._share.parameters, nll)
        norm = self._update(number, nll / targets)
        self._group.spread(self._share.parameters)
        return Stepped(nll, targets, norm, self._training.learning_rate * factor)

    def validation(self, should_stop: ShouldStop) -> Validation | None:
        """The loss on the plan's validation; ``None``: broken off."""
        self._group.announce(Order("validate"))
        own = self._share.validation(should_stop)
        if own is None or self._group.size == 1:
            self._group.total(0.0, 0.0, 0.0)
            return own
        nll, tokens, characters = self._group.total(own.nll, own.tokens, own.characters)
        return Validation(nll, round(tokens), round(characters))

    def state(self) -> dict[str, Any]:
        """What the next step depends on, beside weights and random state."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "ranks": self._ranks.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._ranks.load(state["ranks"])

    def _update(self, number: int, loss: float) -> float:
        """Clip and step; the gradient's norm before that."""
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            self._share.parameters, self._training.max_grad_norm
        ).item()
        is_skipped = self._scaler.is_enabled() and not math.isfinite(norm)  # the scale is lowered
        if not math.isfinite(loss) or not (math.isfinite(norm) or is_skipped):
            raise NotFinite(f"step {number + 1}: the loss ({loss}) or the gradient norm ({norm})")
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if not is_skipped:
            self._ranks.allocate(number + 1)
        self._optimizer.zero_grad(set_to_none=True)
        return norm
