"""How many dialogues a step has, and what that does to everything that is counted in steps.

The recipe's numbers are for its own steps of ``batch_size * gradient_accumulation`` dialogues, and
exact mode makes just these. Throughput mode fills a forward instead and takes it for a step. Then
numbers of steps shrink as the steps grow, so that they stand for as many dialogues as before, and
the learning rate grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from training.recipe import LearningRateScaling, Recipe

# Of the sums of that many drawn lengths, 98 % are within two standard deviations above the mean.
SPREAD = 2.0
# Square root: Malladi et al. 2022, for optimisers that divide by the gradient's size. Linear: Goyal
# et al. 2017, for SGD.
_GROWTH: dict[LearningRateScaling, Callable[[float], float]] = {
    "sqrt": math.sqrt,
    "linear": lambda times: times,
    "none": lambda _: 1.0,
}
_IN_STEPS = ("num_warmup_steps", "num_stable_steps", "num_decay_steps", "timescale")


@dataclass(frozen=True)
class Pace:
    """The dialogues of an optimiser step, and the recipe as it reads in such steps."""

    dialogues_per_step: int
    recipe: Recipe

    @classmethod
    def of(cls, recipe: Recipe, lengths: np.ndarray, processes: int = 1) -> Pace:
        """The pace at which dialogues of ``lengths`` ([D], in tokens) are trained on.

        Throughput mode fills a forward of each of the ``processes``.
        """
        own = recipe.training.dialogues_per_step
        if recipe.training.mode == "exact":
            return cls(own, recipe)
        limit = recipe.training.forward_limit(recipe.prompt)
        filling = min(processes * dialogues_that_fill(limit, lengths), len(lengths))
        return cls(filling, _paced(recipe, filling / own))

    def sentence(self, asked: Recipe, steps: int) -> str | None:
        """What the pace changes of ``asked``, for the person who trains; ``None``: nothing.

        ``steps`` are those of the whole training.
        """
        training = asked.training
        if training.mode == "exact":
            return None
        own = training.dialogues_per_step
        times = self.dialogues_per_step / own
        rate = f"the learning rate is {self.recipe.training.learning_rate:.3g}"
        if self.recipe.training.learning_rate != training.learning_rate:
            rule = {"sqrt": "the square root of that", "linear": "that"}
            grown = rule[training.learning_rate_scaling]
            rate += f" instead of {training.learning_rate:.3g} (times {grown})"
        return (
            f"Throughput mode: {self.dialogues_per_step} dialogues a step instead of {own}, "
            f"{times:.3g} times as many, so all numbers of steps are divided by that and {rate}; "
            f"{steps} steps in all. This is another optimisation than exact mode's: compare runs "
            "at equal dialogues, not at equal steps."
        )


def dialogues_that_fill(limit: int, lengths: np.ndarray) -> int:
    """How many dialogues of ``lengths`` together nearly always have ``limit`` tokens at most."""
    mean, deviation = float(lengths.mean()), float(lengths.std())
    # mean * n + SPREAD * deviation * sqrt(n) = limit, solved for sqrt(n)
    spread = SPREAD * deviation
    root = (math.sqrt(spread * spread + 4 * mean * limit) - spread) / (2 * mean)
    return max(1, min(int(root * root), len(lengths)))


def _paced(recipe: Recipe, times: float) -> Recipe:
    """``recipe`` for steps of ``times`` as many dialogues."""

    def steps(asked: int) -> int:
        return max(1, round(asked / times)) if asked else 0

    training, record = recipe.training, recipe.record
    options = {
        name: max(1.0, round(value / times)) if name in _IN_STEPS else value
        for name, value in training.scheduler_options.items()
    }
    grown = training.learning_rate * _GROWTH[training.learning_rate_scaling](times)
    return msgspec.structs.replace(
        recipe,
        training=msgspec.structs.replace(
            training,
            max_steps=steps(training.max_steps),
            warmup_steps=steps(training.warmup_steps),
            learning_rate=grown,
            scheduler_options=options,
        ),
        record=msgspec.structs.replace(
            record,
            log_every=steps(record.log_every),
            evaluate_every=steps(record.evaluate_every),
            save_every=steps(record.save_every),
            sample_every=steps(record.sample_every),
        ),
        adalora=msgspec.structs.replace(recipe.adalora, every=steps(recipe.adalora.every)),
    )
