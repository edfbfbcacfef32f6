"""The largest forward that a training will make, by the lengths of its dialogues."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from training.nn.packing import common_beginning
from training.planning.plan import Plan

# Of sums of many values that are drawn, hardly one in ten thousand is so many deviations above.
_SPREAD = 4.0
_LOOKED_AT = 64  # dialogues, for what all of them begin with


@dataclass(frozen=True)
class Forward:
    """So many ``tokens`` are computed at once, and ``targets`` of them bear a loss."""

    tokens: int
    targets: int

    @classmethod
    def largest(cls, plan: Plan) -> Forward:
        """The largest that is to be expected of ``plan``.

        Steps are drawn at random. So it is what so many dialogues hardly ever exceed, or the
        longest one among others of mean length; never more than the recipe allows. A beginning that
        all dialogues share counts once. How many targets a dialogue has is taken from its replies'
        characters.
        """
        lengths, characters = plan.train.lengths(), plan.train.reply_characters()
        learnt = characters * (plan.report.target_tokens / max(1, int(characters.sum())))
        in_a_step = plan.pace.dialogues_per_step * math.ceil(len(lengths) / len(plan.train))
        longest = int(lengths.max())
        tokens = max(longest, min(plan.tokens_per_forward, _most(lengths, in_a_step)))
        usual = min(in_a_step, math.ceil(tokens / float(lengths.mean())))
        targets = min(tokens, _most(learnt, usual))
        spared = _shared(plan) * (min(in_a_step, _fewest(lengths, tokens)) - 1)
        return cls(max(longest, tokens - spared), targets)


def _most(values: np.ndarray, many: int) -> int:
    """What ``many`` of ``values`` are together at most, but for rare cases."""
    mean = float(values.mean())
    usual = mean * many + _SPREAD * float(values.std()) * math.sqrt(many)
    return math.ceil(max(usual, float(values.max()) + mean * (many - 1)))


def _fewest(lengths: np.ndarray, tokens: int) -> int:
    """How many dialogues have ``tokens`` together at least, but for rare cases."""
    mean, spread = float(lengths.mean()), _SPREAD * float(lengths.std())
    # mean * n + spread * sqrt(n) = tokens, solved for sqrt(n)
    root = (math.sqrt(spread * spread + 4 * mean * tokens) - spread) / (2 * mean)
    return max(1, int(root * root))


def _shared(plan: Plan) -> int:
    """How many tokens a forward computes once for all of its dialogues."""
    if not plan.recipe.training.shares:
        return 0
    first = plan.train[:_LOOKED_AT]
    return common_beginning([example for dialogue in first for example in dialogue])
