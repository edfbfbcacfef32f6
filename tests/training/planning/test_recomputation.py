"""What gradient checkpointing costs, and the hint where it is not needed."""

from __future__ import annotations

from tests.training.conftest import MakePlan
from training.planning.flops import recomputed_flops, training_flops
from training.planning.recomputation import Recomputation
from training.synthetic.base import QWEN3_0_6B

GIB = 2**30
LORA = 10_092_544  # r = 16 on the seven projections of Qwen3-0.6B


def test_arithmetic_of_qwen3_is_what_its_shapes_say() -> None:
    """Worked out by hand: 440.4 M weights in linear layers, 155.6 M in the head."""
    token = training_flops(QWEN3_0_6B, LORA, tokens=1, targets=0)
    target = training_flops(QWEN3_0_6B, LORA, tokens=0, targets=1)

    assert token == 4 * 440_401_920 + 6 * LORA
    assert target == 4 * 155_582_464
    assert recomputed_flops(QWEN3_0_6B, LORA, tokens=1) == 2 * (440_401_920 + LORA)


def test_a_hint_comes_only_where_it_would_help(make_plan: MakePlan) -> None:
    """Not where checkpointing is off already, and not where the memory may not be enough."""
    plan = make_plan("training.gradient_checkpointing=true")
    again = Recomputation.of(plan)

    assert 1.2 < again.times < 1.6
    assert again.memory_with < again.memory_without
    said = again.sentence(plan, 8 * GIB)
    assert said is not None
    assert f"takes {again.times:.2f} times the arithmetic and is not needed here" in said
    assert "--set training.gradient_checkpointing=false" in said
    assert again.sentence(plan, again.memory_without) is None
    off = make_plan("training.gradient_checkpointing=false")
    assert Recomputation.of(off) == again
    assert again.sentence(off, 8 * GIB) is None
