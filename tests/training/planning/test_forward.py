"""The largest forward, foretold from lengths, beside those that are made."""

from __future__ import annotations

import pytest

from tests.training.conftest import MakePlan
from training.nn.packing import packs
from training.planning.forward import Forward


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("training.share_prefix=false",),
        ("training.batch_size=1", "training.gradient_accumulation=1"),
        ("training.batch_size=1", "prompt.max_length=100"),
        ("training.mode=throughput", "training.tokens_per_forward=700"),
        ("prompt.roles=every-reply",),
    ],
    ids=lambda overrides: " ".join(overrides) or "default",
)
def test_no_forward_is_larger_and_none_much_smaller(
    make_plan: MakePlan, overrides: tuple[str, ...]
) -> None:
    """In every step of several epochs, in tokens and in targets."""
    plan = make_plan(*overrides, "training.max_steps=0", "training.epochs=5")
    made = [
        one
        for step in range(plan.total_steps)
        for one in packs(
            plan.step_examples(step), plan.tokens_per_forward, share=plan.recipe.training.shares
        )
    ]

    largest = Forward.largest(plan)

    tokens = max(one.tokens for one in made)
    targets = max(len(one.targets) for one in made)
    assert tokens <= largest.tokens <= 1.5 * tokens
    assert targets <= largest.targets <= 3 * targets
