"""Kernels against their formulas where shapes are multiples of nothing, in Triton's interpreter.

On a GPU every shape would be a kernel to compile; :mod:`tests.server.engine.cuda.test_kernels` has
some for it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from server.engine.cuda.step import Heads, Share, Split, Step
from tests.server.engine.cuda.formulas import Formulas
from tests.server.engine.cuda.tiles import Piece, step_of

pytest.importorskip("triton", reason="needs Triton, whose interpreter runs kernels on the CPU")

from server.engine.cuda import kernels
from server.engine.cuda.kernels.multiply import multiply

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="would compile every shape")
CPU = torch.device("cpu")
BLOCKS, OFFSET, COLUMNS = 40, 16, 192
a_few = settings(
    max_examples=4, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
tiles = st.sampled_from([1, 16])
ranks = st.lists(st.sampled_from([0, 1, 3, 7, 16, 17, 33, 64]), min_size=1, max_size=3)
widths = st.sampled_from([24, 72, 300, 1030])
groups = st.sampled_from([1, 2, 3, 7, 8])
seeds = st.integers(0, 99)


class Texts:
    """A step of a text for each of ``ranks``, of any length, and a token that is none.

    An adapter has random factors of ``size`` elements for each rank.
    """

    def __init__(self, tile: int, ranks: list[int], seed: int, size: int = 0) -> None:
        torch.manual_seed(seed)
        self._kept = [torch.randn(rank * size) if rank and size else None for rank in ranks]
        blocks = torch.randperm(BLOCKS).tolist()
        pieces = []
        for rank, factors in zip(ranks, self._kept, strict=True):
            past, more = torch.randint(66, (2,)).tolist()
            count = 1 if tile == 1 else 1 + more % 34
            own = tuple(blocks.pop() for _ in range(-(-(past + count) // 16)))
            pieces.append(Piece(past, count, own, factors, rank if factors is not None else 0))
        self.count = sum(piece.count for piece in pieces)
        self.step: Step = step_of(pieces, CPU, tile=tile, padding=1)

    def x(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape[:-1], self.step.count, shape[-1])

    def cache(self, kv_heads: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = torch.randn(2, BLOCKS, kv_heads, 16, width)
        return keys, values

    def compare(self, name: str, *tensors: Any, **named: Any) -> None:
        """What the kernel returns and leaves in ``tensors`` is what the formula does."""
        theirs = [_copied(one) for one in tensors]
        more = {key: _copied(one) for key, one in named.items()}
        found = getattr(kernels, name)(*tensors, **named)
        wanted = getattr(Formulas(), name)(*theirs, **more)
        self.close((found, *tensors, *named.values()), (wanted, *theirs, *more.values()))

    def close(self, found: Any, wanted: Any) -> None:
        if isinstance(found, tuple):
            for one, other in zip(found, wanted, strict=True):
                self.close(one, other)
        elif isinstance(found, torch.Tensor):
            rows = slice(self.count if len(found) == self.step.count else None)
            torch.testing.assert_close(found[rows], wanted[rows], rtol=1e-3, atol=1e-3)


def _copied(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_copied, value))
    return value.clone() if isinstance(value, torch.Tensor) else value


@a_few
@given(tiles, ranks, seeds, widths, st.integers(1, 3))
def test_a(tile: int, ranks: list[int], seed: int, inputs: int, projections: int) -> None:
    """Of any rank and number of inputs; what has no adapter is left alone."""
    texts = Texts(tile, ranks, seed, OFFSET + projections * inputs)
    out = torch.full((texts.step.count, COLUMNS), 7.0)
    given = {"offset": OFFSET, "projections": projections, "out": out}
    texts.compare("shrink", texts.x(inputs), texts.step, **given)


@a_few
@given(ranks, seeds, st.sampled_from([72, 300, 4100]), st.sampled_from([17, 90, 259]))
def test_projections(ranks: list[int], seed: int, inputs: int, outputs: int) -> None:
    """Two to four tokens by their kernel, and as if they were some tens."""
    texts = Texts(1, ranks, seed, OFFSET + 2 * inputs)
    x, weight, bias = texts.x(inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    out = torch.full((texts.step.count, COLUMNS), 7.0)
    named: dict[str, Any] = {"offset": OFFSET, "projections": 2}
    texts.compare("project", x, weight, bias, texts.step, out=out, **named)
    more = torch.full_like(out, 7.0)
    found = multiply(x, weight, bias, texts.step, out=more, in_pieces=True, **named)
    wanted = torch.nn.functional.linear(x, weight, bias)
    texts.close((found.sum(dim=0), more), (wanted, out))


@a_few
@given(tiles, ranks, seeds, widths)
def test_norms_and_gates(tile: int, ranks: list[int], seed: int, width: int) -> None:
    """With what adapters add, of layers that come in pieces."""
    texts = Texts(tile, ranks, seed, OFFSET + 2 * width)
    share = Share(torch.randn(texts.step.count, COLUMNS), OFFSET)
    added, weight = texts.x(2, width), torch.randn(width)
    named: dict[str, Any] = {"epsilon": 1e-6, "share": share}
    texts.compare("add_norm", texts.x(width), added, weight, texts.step, **named)
    texts.compare("gate", texts.x(2 * width), texts.step, share=share)


@a_few
@given(tiles, ranks, seeds, groups, st.sampled_from([16, 64, 128]), st.sampled_from([1, 2, 8]))
def test_attention(
    tile: int, ranks: list[int], seed: int, group: int, width: int, programs: int
) -> None:
    """As many heads for a key head as any family has, over blocks in any order."""
    kv_heads = 1 + seed % 2
    heads = group * kv_heads
    whole = (heads + 2 * kv_heads) * width
    texts = Texts(tile, ranks, seed, OFFSET + whole)
    cache, qkv = texts.cache(kv_heads, width), texts.x(whole)
    arrived = torch.zeros(texts.step.count * kv_heads, dtype=torch.int32)
    cosines, sines = torch.randn(2, 140, width // 2).repeat(1, 1, 2)
    norm = torch.randn(heads + kv_heads, width) if seed % 3 else None
    named: dict[str, Any] = {
        "heads": Heads(count=heads, norm=norm, epsilon=1e-6, angles=(cosines, sines)),
        "share": Share(torch.randn(texts.step.count, COLUMNS), OFFSET),
    }
    kept = _copied(cache)
    wanted = Formulas().attend(qkv.clone(), kept, texts.step, **named)
    if tile == 1 and programs > 1:
        named["split"] = Split(programs, arrived)
    found = kernels.attend(qkv, cache, texts.step, **named)
    texts.close((found, *cache, arrived), (wanted, *kept, torch.zeros_like(arrived)))
