"""Validation loss: a sum over tokens that no batching can change."""

from __future__ import annotations

import pytest
import torch

from adapters.base import Base
from tests.training.conftest import MakePlan
from training.nn.model import load_model
from training.scores.validation import Validation, validate


def test_batching_does_not_change_the_loss(base: Base, make_plan: MakePlan) -> None:
    """One dialogue at a time or all at once: the same corpus loss."""
    plan = make_plan("quantization.kind=none")
    model = load_model(base, plan.recipe, torch.device("cpu"))

    measured = [
        validate(model, plan.validation, plan.validation.characters, size)
        for size in (1, 60, 10_000)
    ]

    found = [one.nll for one in measured if one is not None]
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)


def test_the_model_stays_in_its_mode(base: Base, make_plan: MakePlan) -> None:
    """Dropout is off while measuring and back on afterwards; no gradient is left behind."""
    plan = make_plan()
    model = load_model(base, plan.recipe, torch.device("cpu")).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # fresh LoRA adds nothing, with or without dropout
                parameter.normal_(0, 0.2)

    one = validate(model, plan.validation, plan.validation.characters)
    two = validate(model, plan.validation, plan.validation.characters)

    assert one == two
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_stop_breaks_the_measurement_off(base: Base, make_plan: MakePlan) -> None:
    """Whoever asks to stop does not wait for a long validation; nothing half-measured counts."""
    plan = make_plan()
    model = load_model(base, plan.recipe, torch.device("cpu"))
    answers = iter([False, True])

    found = validate(
        model, plan.validation, plan.validation.characters, 1, should_stop=lambda: next(answers)
    )

    assert found is None


def test_means_are_per_token_and_per_character() -> None:
    """Both means divide the same sum, in nats."""
    found = Validation(nll=12.0, tokens=4, characters=6)

    assert (found.nll_per_token, found.nll_per_character) == (3.0, 2.0)


def test_counts_are_those_of_the_replies(make_plan: MakePlan) -> None:
    """Characters counted are those of replies that bear a loss."""
    plan = make_plan()

    dialogues = plan.dataset.split("validation")
    replies = [line for dialogue in dialogues for line in dialogue.utterances[1::2]]

    assert plan.validation.characters == sum(map(len, replies))
    # byte tokens: every character's bytes, and one end marker a reply
    assert sum(one.targets for one in plan.validation) == sum(
        len(line.encode()) + 1 for line in replies
    )
