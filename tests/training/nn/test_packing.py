"""Packs: sequences in one row that neither pad nor see each other."""

from __future__ import annotations

import pytest
import torch

from adapters.base import Base
from tests.training.conftest import MakePlan
from training.data.encode import Example
from training.nn.model import load_model, summed_nll
from training.nn.packing import pack, packs


def example(*ids: int, targets: int) -> Example:
    """A sequence whose last ``targets`` ids bear the loss."""
    return Example(list(ids), [False] * (len(ids) - targets) + [True] * targets)


def test_positions_restart_and_targets_follow_their_predictors() -> None:
    """Each sequence counts from 0; a target is predicted from the position before it, and the last
    one, which predicts nothing, is left out.
    """
    packed = pack([example(1, 2, 3, targets=1), example(4, 5, 6, 7, targets=2)])

    assert packed.input_ids.tolist() == [1, 2, 4, 5, 6]
    assert packed.position_ids.tolist() == [0, 1, 0, 1, 2]
    assert packed.predicting.tolist() == [1, 3, 4]
    assert packed.targets.tolist() == [3, 6, 7]


def test_packs_hold_at_most_the_budget_and_keep_the_order() -> None:
    """Sequences are never split; one beyond the budget stands alone."""
    sequences = [example(*range(size), targets=1) for size in (3, 4, 2, 9, 1 + 1)]

    sizes = [made.tokens for made in packs(sequences, 7, share=False)]

    assert sizes == [7 - 2, 2 - 1, 9 - 1, 2 - 1]  # without the last token of each


def test_a_common_beginning_is_laid_down_once() -> None:
    """Before all sequences; positions go on from it, and targets keep their predictors."""
    packed = pack([example(1, 2, 3, 4, targets=1), example(1, 2, 5, 6, 7, targets=2)])

    assert packed.shared == 2
    assert packed.lengths == (1, 2)
    assert packed.input_ids.tolist() == [1, 2, 3, 5, 6]
    assert packed.position_ids.tolist() == [0, 1, 2, 2, 3]
    assert packed.predicting.tolist() == [2, 3, 4]
    assert packed.targets.tolist() == [4, 6, 7]


@pytest.mark.parametrize(
    ("sequences", "shared"),
    [
        ([example(1, 2, 3, 4, targets=1)], 0),  # one alone shares nothing
        ([example(1, 2, 3, 4, targets=1)] * 2, 2),  # 3 predicts a target, 4 is one
        ([example(1, 2, 3, 4, targets=3), example(1, 2, 3, 5, targets=1)], 0),
        ([example(1, 2, 3, 4, targets=1), example(2, 2, 3, 4, targets=1)], 0),
    ],
)
def test_nothing_is_shared_that_predicts_a_target(sequences: list[Example], shared: int) -> None:
    """Each sequence keeps the positions that bear its loss."""
    packed = pack(sequences)

    assert packed.shared == shared
    assert len(packed.targets) == sum(one.targets for one in sequences)


def test_sharing_changes_no_gradient(base: Base, make_plan: MakePlan) -> None:
    """What is computed once has the gradient that it has when each sequence computes its own."""
    plan = make_plan("quantization.kind=none", "lora.dropout=0.0")
    torch.manual_seed(0)
    model = load_model(base, plan.recipe, torch.device("cpu")).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    examples = plan.step_examples(0)
    assert pack(examples).shared > 10

    found = []
    for share in (True, False):
        model.zero_grad()
        summed_nll(model, pack(examples, share=share)).backward()
        found.append([one.grad for one in model.parameters() if one.grad is not None])

    assert len(found[0]) == 2 * 2 * 7
    for ours, wanted in zip(*found, strict=True):
        assert (ours - wanted).norm() <= 1e-5 * wanted.norm()


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
