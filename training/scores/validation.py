"""Exact validation loss: the sum over all target tokens, whatever the batching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from training.data.encode import Example
from training.nn.model import summed_nll
from training.nn.packing import packs
from training.stages import OnProgress, unheard

TOKENS_PER_FORWARD = 2048


@dataclass(frozen=True, slots=True)
class Validation:
    """The summed negative log likelihood (nats) of the replies in a set of dialogues."""

    nll: float
    tokens: int
    characters: int

    @property
    def nll_per_token(self) -> float:
        return self.nll / self.tokens

    @property
    def nll_per_character(self) -> float:
        """Comparable between tokenizers: ``exp`` of it is the per-character perplexity."""
        return self.nll / self.characters


def validate(
    model: Any,
    examples: Sequence[Example],
    characters: int,
    tokens_per_forward: int = TOKENS_PER_FORWARD,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = unheard,
) -> Validation | None:
    """The loss of ``model``, with LoRA or without, on ``examples``.

    ``characters`` is the length of their replies. ``None`` where ``should_stop`` broke it off.
    ``on_progress`` gets (examples done, examples in all). Leaves the model in the mode that it was
    in.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            nll, done = 0.0, 0
            for pack in packs(examples, tokens_per_forward):
                if should_stop():
                    return None
                nll += summed_nll(model, pack).item()
                done += len(pack.lengths)
                on_progress(done, len(examples))
    finally:
        model.train(was_training)
    return Validation(nll, sum(example.targets for example in examples), characters)
