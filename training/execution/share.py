"""One process's share of a training's arithmetic: gradients of steps, and validation losses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from training.data.encode import Example
from training.execution.group import ALONE, Group, part_of
from training.nn.model import summed_nll, trainable
from training.nn.packing import packs
from training.planning.plan import Plan
from training.scores.validation import Validation, validate

if TYPE_CHECKING:
    from peft import PeftModel


class Share:
    """What this process of ``group`` computes on its copy of the ``model``."""

    def __init__(self, plan: Plan, model: PeftModel, group: Group = ALONE) -> None:
        self.plan = plan
        self.model = model
        self.parameters = trainable(model)
        self._group = group

    def backward(self, step: int, examples: Sequence[Example], scale: float = 1.0) -> float:
        """Add up this process's part of the gradient of the mean over all targets of ``examples``.

        They are those of step ``step`` (from 0). The loss is multiplied with ``scale`` before.
        Returned is the part's summed loss in nats.
        """
        targets = sum(example.targets for example in examples)
        if self._group.size > 1:
            examples = part_of(examples, self._group.rank, self._group.size)
        if not self._group.is_first:  # the first one's random state goes on and is checkpointed
            torch.manual_seed(_seed(self.plan.recipe.training.seed, self._group.rank, step))
        losses = []
        training = self.plan.recipe.training
        for pack in packs(examples, self.plan.tokens_per_forward, share=training.shares):
            loss = summed_nll(self.model, pack, training.neftune_alpha)
            (scale * (loss / targets)).backward()
            losses.append(loss.detach())
        return sum((loss.item() for loss in losses), 0.0)  # at the end: each waits for the GPU

    def validation(self, should_stop: Callable[[], bool] = lambda: False) -> Validation | None:
        """The loss on this process's part of the validation; ``None``: broken off."""
        part = self.plan.validation[self._group.rank :: self._group.size]
        characters = sum(example.characters for example in part)
        return validate(self.model, part, characters, should_stop=should_stop)


def _seed(seed: int, rank: int, step: int) -> int:
    """Of the dropout of process ``rank`` in ``step``: a resumed run draws the same."""
    digest = hashlib.sha256(f"{seed} {rank} {step}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
