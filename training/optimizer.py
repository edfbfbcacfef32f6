"""Optimisers and learning rate schedules by the names the field uses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from training.recipe import Training

# Bytes of state a parameter: two moments, or two quantised ones.
STATE_BYTES = {"paged_adamw_32bit": 8, "adamw": 8, "adamw_8bit": 2}


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], training: Training
) -> torch.optim.Optimizer:
    """The recipe's optimiser over ``parameters``.

    Without a GPU there is nothing to page out to, and the paged kind is its unpaged self.
    """
    options: dict[str, Any] = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options)
    import bitsandbytes

    kinds = bitsandbytes.optim
    if training.optimizer == "adamw_8bit":
        return kinds.AdamW8bit(parameters, **options)
    paged = torch.cuda.is_available()
    return (kinds.PagedAdamW32bit if paged else kinds.AdamW32bit)(parameters, **options)


def learning_rate(training: Training, step: int, total_steps: int) -> float:
    """The rate of step ``step`` (from 0), after a linear warm-up of ``warmup_steps``."""
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    decaying = max(1, total_steps - training.warmup_steps)
    done = min(1.0, (step - training.warmup_steps) / decaying)
    factor = {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }[training.scheduler]
    return training.learning_rate * factor
