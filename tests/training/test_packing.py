"""Packs: sequences in one row that neither pad nor see each other."""

from __future__ import annotations

import pytest
import torch

from adapters.base import Base
from tests.training.conftest import MakePlan
from training.data.encode import Example
from training.model import load_model, summed_nll
from training.packing import pack, packs


def example(*ids: int, targets: int) -> Example:
    """A sequence whose last ``targets`` ids bear the loss."""
    return Example(list(ids), [False] * (len(ids) - targets) + [True] * targets)


def test_positions_restart_and_targets_follow_their_predictors() -> None:
    """Each sequence counts from 0; a target is predicted from the position before it."""
    packed = pack([example(1, 2, 3, targets=1), example(4, 5, 6, 7, targets=2)])

    assert packed.input_ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert packed.position_ids.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert packed.predicting.tolist() == [1, 4, 5]
    assert packed.targets.tolist() == [3, 6, 7]


def test_packs_hold_at_most_the_budget_and_keep_the_order() -> None:
    """Sequences are never split; one beyond the budget stands alone."""
    sequences = [example(*range(size), targets=1) for size in (3, 4, 2, 9, 1 + 1)]

    sizes = [made.tokens for made in packs(sequences, 7)]

    assert sizes == [7, 2, 9, 2]


def test_packed_loss_equals_the_sum_of_separate_losses(base: Base, make_plan: MakePlan) -> None:
    """Dialogues in one row are isolated: together they cost what they cost alone."""
    plan = make_plan("quantization.kind=none", "training.gradient_checkpointing=false")
    torch.manual_seed(0)
    model = load_model(base, plan.recipe, torch.device("cpu")).eval()
    chosen = [one for dialogue in plan.train[:6] for one in dialogue]

    with torch.no_grad():
        together = summed_nll(model, pack(chosen)).item()
        alone = [summed_nll(model, pack([one])).item() for one in chosen]

    assert together == pytest.approx(sum(alone), rel=1e-5)
