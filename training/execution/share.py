"""One process's share of a training's arithmetic: gradients of steps, and validation losses."""

from __future__ import annotations

import gc
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from training.data.encode import Example
from training.execution.group import ALONE, Group, part_of
from training.execution.random_state import random_state, restore_random
from training.memory import is_out_of_memory
from training.nn.model import recompute_first, recomputed_layers, summed_nll, trainable
from training.nn.packing import packs
from training.planning.plan import Plan
from training.scores.validation import Validation, validate

if TYPE_CHECKING:
    from peft import PeftModel

logger = logging.getLogger(__name__)


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

        Where the recipe leaves to us which activations are kept, a step that does not fit into the
        memory is made anew, and from then on none are kept. There must be no gradient before.
        """
        targets = sum(example.targets for example in examples)
        if self._group.size > 1:
            examples = part_of(examples, self._group.rank, self._group.size)
        if not self._group.is_first:  # the first one's random state goes on and is checkpointed
            torch.manual_seed(_seed(self.plan.recipe.training.seed, self._group.rank, step))
        if not self._may_give_way():
            return self._added_up(examples, targets, scale)
        drawn = random_state()
        try:
            return self._added_up(examples, targets, scale)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            logger.warning(
                "Step %d did not fit into the memory and is made anew: from here on the "
                "activations of all layers are computed again.",
                step + 1,
            )
        self._give_way()  # here, as the error holds what it came through
        restore_random(drawn)
        return self._added_up(examples, targets, scale)

    def _may_give_way(self) -> bool:
        """Whether layers keep activations that they need not keep."""
        is_ours = self.plan.recipe.training.gradient_checkpointing == "auto"
        return is_ours and recomputed_layers(self.model) < self.plan.base.architecture.layers

    def _give_way(self) -> None:
        """Let go of what a step has left that broke off, and keep no activations from now on."""
        recompute_first(self.model, self.plan.base.architecture.layers)
        self.model.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _added_up(self, examples: Sequence[Example], targets: int, scale: float) -> float:
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
