"""An adapter's factors as the kernels read them: eight bits, and how much memory."""

from __future__ import annotations

import pytest
import torch

from adapters.base import Architecture
from adapters.manifest import PROJECTIONS
from server.engine.lora import GROUPS, Expand, GroupFactors, LoraStack
from server.engine.native.adapter import PackedStack, in_eight_bits, packed_bytes

SHAPE = Architecture(
    model_type="qwen3",
    hidden_size=48,
    intermediate_size=80,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=24,
    vocab_size=100,
    context_length=64,
)


def stack_of(rank: int, targets: tuple[str, ...]) -> LoraStack:
    """Random factors of ``targets`` in every layer."""
    layer = {}
    for name, projections in GROUPS.items():
        chosen = [each for each in projections if each in targets]
        if not chosen:
            continue
        inputs = SHAPE.projection_shape(projections[0])[0]
        expands, start = {}, 0
        for number, projection in enumerate(chosen):
            outputs = SHAPE.projection_shape(projection)[1]
            columns = slice(number * rank, (number + 1) * rank)
            expands[projection] = Expand(
                columns, slice(start, start + outputs), torch.randn(rank, outputs)
            )
            start += outputs
        layer[name] = GroupFactors(torch.randn(len(chosen) * rank, inputs), expands)
    return LoraStack((layer,) * SHAPE.layers)


@pytest.mark.parametrize("factor_format", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("targets", [PROJECTIONS, ("q_proj", "down_proj"), ("up_proj",)])
@pytest.mark.parametrize("rank", [1, 16, 21])
def test_what_an_adapter_will_take_is_what_it_takes(
    rank: int, targets: tuple[str, ...], factor_format: str
) -> None:
    """The bank decides by it before the factors are read."""
    packed = PackedStack(stack_of(rank, targets), SHAPE, rank=rank, factor_format=factor_format)

    assert packed.nbytes == packed_bytes(SHAPE, rank, targets, factor_format)


@pytest.mark.parametrize("dim", [0, 1])
def test_eight_bits_are_off_by_half_a_step_at_most(dim: int) -> None:
    """Each row or column has a step of its own, a 127th of its largest number."""
    matrix = torch.randn(5, 7) * torch.logspace(-3, 3, 5)[:, None]
    codes, scale = in_eight_bits(matrix, dim=dim)

    steps = scale.unsqueeze(dim)
    assert codes.abs().amax(dim).eq(127).all()
    assert ((codes * steps - matrix).abs() <= steps * 0.5001).all()


def test_a_change_of_weights_is_off_by_one_percent() -> None:
    """Of rank 16, by its norm: as much as weights in int8 are off, and of far less than those."""
    a, b = torch.randn(16, 1024), torch.randn(2048, 16)
    (codes_a, of_a), (codes_b, of_b) = in_eight_bits(a, dim=1), in_eight_bits(b, dim=0)

    found = codes_b.float() @ ((of_a * of_b)[:, None] * codes_a)
    assert 0.001 < (found - b @ a).norm() / (b @ a).norm() < 0.013


def test_zeros_stay_zeros() -> None:
    """An adapter begins with a B of zeros."""
    codes, scale = in_eight_bits(torch.zeros(3, 4), dim=1)

    assert not codes.any()
    assert not scale.any()


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_has_a_scale_that_is_none(strange: float) -> None:
    """So what is computed with it is none either; rows beside it are as they were."""
    matrix = torch.ones(2, 3)
    matrix[1, 2] = strange
    codes, scale = in_eight_bits(matrix, dim=1)

    assert not scale[1].isfinite()
    assert not (codes[1] * scale[1]).isfinite().any()
    assert torch.equal(codes[0] * scale[0], torch.ones(3))
