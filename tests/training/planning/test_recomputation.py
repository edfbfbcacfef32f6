"""How many layers compute their activations again, and that it makes no difference."""

from __future__ import annotations

import pytest
import torch

from adapters.base import Base
from tests.training.conftest import MakePlan
from training.execution.optimisation import Optimisation
from training.nn.model import load_model, recompute_first, recomputed_layers
from training.planning.flops import recomputed_flops, training_flops
from training.planning.plan import Plan
from training.planning.recomputation import CPU_SHARE, Recomputation, arithmetic
from training.synthetic.base import QWEN3_0_6B

CPU = torch.device("cpu")
GIB = 2**30
LORA = 10_092_544  # r = 16 on the seven projections of Qwen3-0.6B
DELICATE = ("lora.dropout=0.3", "training.neftune_alpha=5.0")


def test_arithmetic_of_qwen3_is_what_its_shapes_say() -> None:
    """Worked out by hand: 440.4 M weights in linear layers, 155.6 M in the head."""
    token = training_flops(QWEN3_0_6B, LORA, tokens=1, targets=0)
    target = training_flops(QWEN3_0_6B, LORA, tokens=0, targets=1)

    assert token == 4 * 440_401_920 + 6 * LORA
    assert target == 4 * 155_582_464
    assert recomputed_flops(QWEN3_0_6B, LORA, tokens=1) == 2 * (440_401_920 + LORA)


def learnt(base: Base, plan: Plan, layers: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses and the weights of three steps with so many layers that compute again."""
    torch.manual_seed(plan.recipe.training.seed)
    model = load_model(base, plan.recipe, CPU, plan.total_steps, recomputed_layers=layers).train()
    assert recomputed_layers(model) == layers
    optimisation = Optimisation(plan, model)
    losses = [optimisation.step(step, plan.step_examples(step)).nll for step in range(3)]
    return losses, {name: one for name, one in model.named_parameters() if one.requires_grad}


@pytest.mark.parametrize(
    "overrides",
    [
        ("quantization.kind=none",),
        ("quantization.kind=nf4",),
        ("quantization.kind=nf4", "quantization.compute_dtype=bf16"),
        ("lora.kind=dora", "quantization.kind=none"),
    ],
    ids=" ".join,
)
def test_the_result_is_the_same_bits_for_all_some_and_none(
    base: Base, make_plan: MakePlan, overrides: tuple[str, ...]
) -> None:
    """Losses and weights of several steps, with dropout and noise, whatever is computed again."""
    plan = make_plan(*DELICATE, *overrides)

    wanted, weights = learnt(base, plan, 0)

    assert len(set(wanted)) == 3
    for layers in (1, 2):
        losses, others = learnt(base, plan, layers)
        assert losses == wanted
        assert weights.keys() == others.keys()
        assert all(torch.equal(one, others[name]) for name, one in weights.items())


def test_the_last_layers_are_those_that_keep(base: Base, make_plan: MakePlan) -> None:
    """Their memory is free again before the first ones compute theirs; none is also a choice."""
    model = load_model(base, make_plan().recipe, CPU, recomputed_layers=1)

    def which() -> list[bool]:
        return [layer.gradient_checkpointing for layer in model.get_base_model().model.layers]

    assert which() == [True, False]
    recompute_first(model, 2)
    assert which() == [True, True]
    recompute_first(model, 0)
    assert which() == [False, False]


def decided(plan: Plan, free: int, **given: int) -> Recomputation:
    return Recomputation.decided(plan, CPU, free=free, **given)


def test_auto_computes_as_few_layers_again_as_the_memory_asks_for(make_plan: MakePlan) -> None:
    """None where all fits into its share of what is free, all where not even that fits."""
    plan = make_plan("training.gradient_checkpointing=auto", "training.batch_size=64")
    ample = decided(plan, 64 * GIB)
    most, least = ample.needed_without, ample.needed_with
    between = (most + least) // 2

    assert (ample.layers, ample.of, ample.times, ample.needed) == (0, 2, 1.0, most)
    assert least < most
    exact = decided(plan, int(most / CPU_SHARE) + 2)
    assert exact.layers == 0
    some = decided(plan, int(between / CPU_SHARE))
    assert some.layers == 1
    assert least < some.needed <= some.usable < most
    assert 1 < some.times < arithmetic(plan, 2)
    none = decided(plan, GIB)
    assert (none.layers, none.times) == (2, arithmetic(plan, 2))
    assert "all 2 layers are computed again" in none.sentence
    assert "may not suffice" in none.sentence
    assert decided(plan, int(2 * between / CPU_SHARE), neighbours=2).layers == 1


def test_what_the_recipe_sets_holds_whatever_the_memory(make_plan: MakePlan) -> None:
    """And what would be better is said: that nothing need be computed again, or that it must be."""
    on = decided(make_plan("training.gradient_checkpointing=true"), 64 * GIB)
    off = decided(make_plan("training.gradient_checkpointing=false"), GIB // 64)
    fine = decided(make_plan("training.gradient_checkpointing=false"), 64 * GIB)

    assert (on.layers, off.layers, fine.layers) == (2, 0, 0)
    assert "`--set training.gradient_checkpointing=auto` is quicker" in on.sentence
    assert "`--set training.gradient_checkpointing=auto` computes as many again" in off.sentence
    assert "--set" not in fine.sentence
