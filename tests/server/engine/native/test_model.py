"""The native decoder: every row as alone, bit for bit, and close to what torch computes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from adapters.base import Base, read_base
from server.engine.native.build import library
from server.engine.sequence import Chunk
from tests.server.engine.harness import FAMILIES
from tests.server.engine.native.bench import bench
from tests.server.engine.native.processors import Processor
from tests.tiny import tiny_base

pytestmark = pytest.mark.skipif(library() is None, reason="needs a C compiler")

FORMATS = ("fp32", "bf16", "int8", "nf4")


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_is_the_same_in_any_company_and_in_any_pieces(
    family: str, weight_format: str, bases: dict[str, Base], registries: dict[str, Path]
) -> None:
    """Same logits, bit for bit: alone in one piece, and in random pieces among random others."""
    ours = bench(bases[family], registries[family], weight_format)
    rng = random.Random(f"{family} {format}")
    for case in range(3):
        length, adapter = rng.randrange(2, 150), rng.randrange(4)
        alone = ours.sequence(length, case, adapter)
        expected = ours.logits([Chunk(alone, 0, length)])[alone.key]
        again = ours.sequence(length, case, adapter)
        start = 0
        while start < length:
            count = min(rng.choice([1, 2, 7, 31, 64]), length - start)
            company = [
                ours.sequence(rng.choice([1, 2, 5, 40]), rng.randrange(99), rng.randrange(4))
                for _ in range(rng.randrange(9))
            ]
            chunks = [Chunk(one, 0, len(one.tokens)) for one in company]
            chunks.insert(rng.randrange(len(chunks) + 1), Chunk(again, start, count))
            found = ours.logits(chunks)
            start += count
        assert torch.equal(found[again.key], expected)


@pytest.mark.parametrize("weight_format", FORMATS)
def test_every_processor_computes_the_same_logits(
    weight_format: str,
    base: Base,
    registries: dict[str, Path],
    lesser: Processor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A prompt of several steps of attention, then single tokens of many texts with adapters.

    These have one row each, two, and so on: few are computed otherwise than many.
    """

    def logits() -> list[torch.Tensor]:
        ours = bench(base, registries["qwen3"], weight_format)
        texts = [ours.sequence(5 + 9 * at, at, at % 4) for at in range(20)]
        found = [*ours.logits([Chunk(text, 0, len(text.tokens) - 1) for text in texts]).values()]
        for rows in ((1, 2, 3), (4, 5, 8)):
            numbers = [number for number, count in enumerate(rows, start=1) for _ in range(count)]
            for text, number in zip(texts, [*numbers, *[0] * len(texts)], strict=False):
                text.adapter = ours.adapters[number]
            found += ours.logits([Chunk(text, len(text.tokens) - 1, 1) for text in texts]).values()
        return found

    expected = logits()
    with lesser as theirs:
        monkeypatch.setattr("server.engine.native.build.library", lambda: theirs)
        found = logits()
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("head_dim", [128, 104])
@pytest.mark.parametrize("weight_format", ["fp32", "nf4"])
def test_every_processor_attends_the_same_with_wide_heads(
    weight_format: str,
    head_dim: int,
    tmp_path: Path,
    lesser: Processor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of fp32 and bf16 caches: many dimensions at once, and what is left of them."""
    tiny_base(tmp_path / "wide", head_dim=head_dim)
    wide = read_base(tmp_path / "wide", "wide")

    def logits() -> list[torch.Tensor]:
        ours = bench(wide, tmp_path / "none", weight_format)
        text = ours.sequence(100, 0)
        first = ours.logits([Chunk(text, 0, 99)])
        return [*first.values(), *ours.logits([Chunk(text, 99, 1)]).values()]

    expected = logits()
    with lesser as theirs:
        monkeypatch.setattr("server.engine.native.build.library", lambda: theirs)
        found = logits()
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "shape",
    [
        {"intermediate_size": 20},
        {"intermediate_size": 44, "num_key_value_heads": 4},
        {"hidden_size": 60, "head_dim": 40, "num_attention_heads": 3, "num_key_value_heads": 1},
    ],
)
def test_odd_shapes_stay_in_their_rows(shape: dict[str, int], tmp_path: Path) -> None:
    """Layers that fill no whole panel write nothing beside their row, and agree with torch."""
    base = read_base(tiny_base(tmp_path / "base", "llama", **shape), "odd")
    rows = []
    for kernels in ("torch", "native"):
        ours = bench(base, tmp_path / "none", "fp32", kernels)
        sequences = [ours.sequence(length, length) for length in (1, 2, 3, 1, 20, 61)]
        found = ours.logits([Chunk(one, 0, len(one.tokens)) for one in sequences])
        rows.append(torch.stack([found[one.key] for one in sequences]))
    torch.testing.assert_close(*rows, rtol=1e-4, atol=1e-4)
    for one, row in zip(sequences, rows[1], strict=True):
        alone = ours.sequence(len(one.tokens), len(one.tokens))
        assert torch.equal(ours.logits([Chunk(alone, 0, len(one.tokens))])[alone.key], row)


def test_what_is_no_number_does_not_reach_earlier_tokens(tmp_path: Path) -> None:
    """A token sees its predecessors alone: their cache is usable, whatever a later one holds."""
    base = read_base(tiny_base(tmp_path / "base", "llama", num_key_value_heads=4), "poisoned")
    ours = bench(base, tmp_path / "none", "fp32")
    poison = 255
    ours.runner._model._tensors[-4].view(-1, 64)[poison] = float("nan")  # its embedding
    text = [*range(40, 54), poison, 60]
    poisoned = ours.sequence(16, 0)
    poisoned.tokens[:] = text
    assert not ours.logits([Chunk(poisoned, 0, 16)])[poisoned.key].isfinite().all()
    clean = ours.sequence(14, 0)
    clean.tokens[:] = text[:14]
    expected = ours.logits([Chunk(clean, 0, 14)])[clean.key]
    shared = ours.sequence(14, 0)
    shared.tokens[:] = text[:14]
    shared.blocks[:] = poisoned.blocks
    found = ours.logits([Chunk(shared, 13, 1)])[shared.key]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("weight_format", ["fp32", "int8", "nf4"])
def test_the_number_of_threads_changes_nothing(
    weight_format: str, base: Base, registries: dict[str, Path]
) -> None:
    """One thread or three: who takes which task is no part of the result."""
    replies = []
    for threads in (1, 3):
        ours = bench(base, registries["qwen3"], weight_format)
        ours.runner._model._threads = threads
        sequences = [ours.sequence(length, length, length % 4) for length in (1, 40, 1, 9, 70)]
        found = ours.logits([Chunk(one, 0, len(one.tokens)) for one in sequences])
        replies.append(torch.stack([found[key] for key in sorted(found)]))
    assert torch.equal(*replies)


# The error of the logits against fp32 in torch, relative to their norm: about twice the measured.
ERRORS = {"fp32": 1e-5, "bf16": 0.06, "int8": 0.2}


@pytest.mark.parametrize("weight_format", ERRORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_close_to_torch_in_fp32(
    family: str, weight_format: str, bases: dict[str, Base], registries: dict[str, Path]
) -> None:
    """Base and adapters, single tokens and pieces. Random weights magnify errors."""
    rows = []
    for kernels, chosen in (("torch", "fp32"), ("native", weight_format)):
        ours = bench(bases[family], registries[family], chosen, kernels)
        sequences = [ours.sequence(length, length, length % 4) for length in (1, 2, 3, 1, 20, 61)]
        found = ours.logits([Chunk(one, 0, len(one.tokens)) for one in sequences])
        rows.append(torch.stack([found[key] for key in sorted(found)]))
    error = (rows[1] - rows[0]).norm(dim=1) / rows[0].norm(dim=1)
    assert error.max() < ERRORS[weight_format]


@pytest.mark.parametrize("family", FAMILIES)
def test_nf4_is_close_to_bitsandbytes(
    family: str, bases: dict[str, Base], registries: dict[str, Path]
) -> None:
    """Nearer to bitsandbytes' weights in fp32 than those are to the weights before quantising."""
    rows = {}
    for kernels, weight_format in (("torch", "fp32"), ("torch", "nf4"), ("native", "nf4")):
        ours = bench(bases[family], registries[family], weight_format, kernels)
        sequences = [ours.sequence(length, length, length % 4) for length in (1, 2, 3, 1, 20, 61)]
        found = ours.logits([Chunk(one, 0, len(one.tokens)) for one in sequences])
        rows[kernels, weight_format] = torch.stack([found[key] for key in sorted(found)])
    scale = rows["torch", "fp32"].norm(dim=1)
    theirs = ((rows["torch", "nf4"] - rows["torch", "fp32"]).norm(dim=1) / scale).mean()
    apart = ((rows["native", "nf4"] - rows["torch", "nf4"]).norm(dim=1) / scale).mean()
    assert apart < theirs / 2


def test_int8_is_the_same_idea_in_torch(base: Base, registries: dict[str, Path]) -> None:
    """Without a compiler int8 differs by the rounding of norms, cache and factors alone."""
    rows = []
    for kernels in ("torch", "native"):
        ours = bench(base, registries["qwen3"], "int8", kernels)
        sequences = [ours.sequence(length, length, length % 4) for length in (1, 2, 3, 20, 61)]
        found = ours.logits([Chunk(one, 0, len(one.tokens)) for one in sequences])
        rows.append(torch.stack([found[key] for key in sorted(found)]))
    torch.testing.assert_close(*rows, rtol=0, atol=0.05 * float(rows[0].abs().max()))


def test_an_adapter_that_overflows_leaves_its_neighbours_untouched(
    base: Base, registries: dict[str, Path]
) -> None:
    """Infinite activations of one adapter reach no other row."""
    ours = bench(base, registries["qwen3"], "int8")
    good, bad = ours.adapters[1], ours.adapters[3]
    assert good is not None
    assert bad is not None
    beside = [ours.sequence(1, seed, adapter) for seed, adapter in ((1, 1), (2, 0), (3, 3))]
    before = ours.logits([Chunk(one, 0, 1) for one in beside])
    for tensor in bad.stack._tensors:
        if tensor.is_floating_point():
            tensor.fill_(3e38)  # what their eight bits count
    after = ours.logits([Chunk(one, 0, 1) for one in beside])
    assert not after[beside[2].key].isfinite().all(), "or this test shows nothing"
    for one in beside[:2]:
        assert torch.equal(after[one.key], before[one.key])


def test_where_the_time_goes_is_counted(base: Base, registries: dict[str, Path]) -> None:
    """Each kind of work has seconds after a step with adapters."""
    ours = bench(base, registries["qwen3"], "fp32")
    ours.logits([Chunk(ours.sequence(5, 0, 1), 0, 5)])
    assert set(ours.runner._model.timings()) == {
        "linears",
        "attention",
        "adapters",
        "elementwise",
        "head",
    }
    assert all(seconds > 0 for seconds in ours.runner._model.timings().values())
