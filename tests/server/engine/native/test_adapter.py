"""An adapter's factors as the kernels read them: what they add, in which bits and memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from adapters.base import Architecture, read_base
from adapters.manifest import PROJECTIONS
from server.engine.lora import GROUPS, Expand, GroupFactors, LoadedAdapter, LoraStack
from server.engine.native.adapter import PackedStack, in_eight_bits, packed_bytes
from server.engine.native.build import library
from server.engine.sequence import Chunk
from tests.server.engine.native.bench import Bench, bench
from tests.tiny import tiny_base

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


# Heads that end in the midst of a panel of sixteen outputs, panels that are no multiple of four,
# inputs that cannot be cut into quarters.
ODD_SHAPES = (
    {
        "hidden_size": 64,
        "head_dim": 40,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "intermediate_size": 136,
    },
    {
        "hidden_size": 60,
        "head_dim": 24,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 84,
    },
    {
        "hidden_size": 58,
        "head_dim": 8,
        "num_attention_heads": 5,
        "num_key_value_heads": 1,
        "intermediate_size": 77,
    },
)
# With three projections of a group, columns of A from a part of a panel to seven of them.
KINDS = (
    (1, PROJECTIONS),
    (15, PROJECTIONS),
    (17, PROJECTIONS),
    (21, ("q_proj", "v_proj", "up_proj", "down_proj")),
    (33, ("k_proj", "gate_proj", "o_proj")),
    (16, ("v_proj",)),
)


def stack_of(
    rank: int, targets: tuple[str, ...], shape: Architecture = SHAPE, std: float = 1.0
) -> LoraStack:
    """Random factors of ``targets``, others in every layer."""
    return LoraStack(tuple(layer_of(rank, targets, shape, std) for _ in range(shape.layers)))


def layer_of(
    rank: int, targets: tuple[str, ...], shape: Architecture, std: float
) -> dict[str, GroupFactors]:
    layer = {}
    for name, projections in GROUPS.items():
        expands: dict[str, Expand] = {}
        start = 0
        for projection in projections:
            outputs = shape.projection_shape(projection)[1]
            if projection in targets:
                columns = slice(len(expands) * rank, (len(expands) + 1) * rank)
                matrix = torch.randn(rank, outputs) * std
                expands[projection] = Expand(columns, slice(start, start + outputs), matrix)
            start += outputs
        if expands:
            inputs = shape.projection_shape(projections[0])[0]
            layer[name] = GroupFactors(torch.randn(len(expands) * rank, inputs) * std, expands)
    return layer


def rounded(stack: LoraStack, factor_format: str) -> LoraStack:
    """The same with what is left of its numbers in a format."""

    def left_of(matrix: torch.Tensor) -> torch.Tensor:
        if factor_format != "int8":
            return matrix.to(torch.bfloat16 if factor_format == "bf16" else torch.float32).float()
        codes, scale = in_eight_bits(matrix, dim=1)
        return codes * scale[:, None]

    return LoraStack(
        tuple(
            {
                name: GroupFactors(
                    left_of(group.shrink),
                    {
                        projection: Expand(each.columns, each.outputs, left_of(each.matrix))
                        for projection, each in group.expands.items()
                    },
                )
                for name, group in layer.items()
            }
            for layer in stack.layers
        )
    )


@pytest.mark.skipif(library() is None, reason="needs a C compiler")
@pytest.mark.parametrize("factor_format", ["int8", "bf16", "fp32"])
@pytest.mark.parametrize("odd", ODD_SHAPES, ids=lambda odd: f"{odd['hidden_size']} wide")
def test_each_row_gets_what_its_adapter_adds(
    odd: dict[str, int], factor_format: str, tmp_path: Path
) -> None:
    """Few rows and many, of every rank, beside others: as in torch, and bit for bit as alone."""
    base = read_base(tiny_base(tmp_path / "base", **odd), "base")
    registry = tmp_path / "registry"
    registry.mkdir()
    ours, theirs = (bench(base, registry, "fp32", kernels) for kernels in ("native", "torch"))
    for rank, targets in KINDS:
        stack = stack_of(rank, targets, base.architecture, std=0.1)
        packed = PackedStack(stack, base.architecture, rank=rank, factor_format=factor_format)
        ours.adapters.append(LoadedAdapter(str(rank), packed))
        theirs.adapters.append(LoadedAdapter(str(rank), rounded(stack, factor_format)))
    rng = random.Random(factor_format)

    def logits(side: Bench, plans: list[tuple[int, int, int]]) -> list[torch.Tensor]:
        side.used = 0
        texts = [side.sequence(*plan) for plan in plans]
        found = side.logits([Chunk(text, 0, len(text.tokens)) for text in texts])
        return [found[text.key] for text in texts]

    for number in range(1, len(KINDS) + 1):
        for rows in (1, 2, 3, 5, 9):
            together = [(1 if rows < 9 else seed, seed, number) for seed in range(1, rows + 1)]
            company = [(rng.choice([1, 2, 30]), seed, rng.randrange(7)) for seed in range(20, 24)]
            found = logits(ours, together + company)
            expected = logits(theirs, together + company)
            for row, other in zip(found, expected, strict=True):
                assert (row - other).norm() < 1e-5 * other.norm()
            for plan, row in zip(together, found, strict=False):
                assert torch.equal(*logits(ours, [plan]), row)


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
