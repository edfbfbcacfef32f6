"""The forward pass where equal tokens cannot tell: rounding in bf16, rows beside each other."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from adapters.base import Architecture, Base
from adapters.registry import Registry
from server.engine.attention import StepAttention, causal_mask
from server.engine.batch import build, in_batch_order
from server.engine.cache import KVCache
from server.engine.config import EngineConfig
from server.engine.lora import LoadedAdapter
from server.engine.runner import Runner
from server.engine.sequence import Chunk, Sequence
from server.engine.text import Detokenizer, Reply
from server.engine.types import SamplingParams
from tests.server.engine.harness import prompt_of

BLOCKS = 2  # of each sequence


def sequence_of(
    slot: int, prompt: tuple[int, ...], adapter: LoadedAdapter | None = None
) -> Sequence:
    sequence = Sequence(
        key=slot,
        tokens=list(prompt),
        sampling=SamplingParams(),
        seed=0,
        max_tokens=4,
        end_tokens=frozenset(),
        reply=Reply(Detokenizer([])),
        adapter=adapter,
    )
    sequence.blocks.extend(range(slot * BLOCKS, (slot + 1) * BLOCKS))
    return sequence


def logits_of(runner: Runner, chunks: list[Chunk]) -> torch.Tensor:
    """The logits that a step over ``chunks`` (in batch order) would sample from."""
    with torch.inference_mode():
        batch = build(chunks, runner._model.device)
        adapters = [chunk.sequence.adapter for chunk in chunks]
        return runner._model.forward(batch, runner._cache, adapters)


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_bf16_is_as_close_to_fp32_as_transformers_in_bf16(
    kernels: str, base: Base, tmp_path: Path
) -> None:
    """Rounding is no worse than the oracle's: no step is done in a coarser type than there."""
    prompts = [prompt_of(20, seed=seed) for seed in range(8)]
    settings = {"weights": "bf16", "device": "cpu", "kernels": kernels}
    runner = Runner(EngineConfig(base=base, registry_root=tmp_path, **settings))
    ours = logits_of(runner, [Chunk(sequence_of(i, p), 0, 20) for i, p in enumerate(prompts)])
    references = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForCausalLM.from_pretrained(base.path, dtype=dtype)
        with torch.inference_mode():
            references[dtype] = model(torch.tensor(prompts)).logits[:, -1].float()
    exact = references[torch.float32]
    their_error = (references[torch.bfloat16] - exact).abs().mean()
    assert their_error > 0
    assert (ours - exact).abs().mean() < 1.25 * their_error


def test_an_adapter_that_overflows_leaves_its_neighbours_untouched(
    base: Base, registries: dict[str, Path], tmp_path: Path
) -> None:
    """Infinite activations of one adapter are cut out of the other rows, not multiplied by zero."""
    settings = {"weights": "fp32", "device": "cpu", "kernels": "torch"}
    runner = Runner(EngineConfig(base=base, registry_root=tmp_path, **settings))
    entries = Registry(registries["qwen3"]).snapshot().entries
    good, bad = runner.load(entries["full"]), runner.load(entries["wide"])
    for groups in bad.stack.layers:
        for factors in groups.values():
            factors.shrink.fill_(3e38)

    def rows(*adapters: LoadedAdapter | None) -> torch.Tensor:
        found = [sequence_of(slot, (65 + slot,), each) for slot, each in enumerate(adapters)]
        return logits_of(runner, [Chunk(sequence, 0, 1) for sequence in found])

    alone = rows(good, None)
    beside = rows(good, None, bad)
    assert not beside[2].isfinite().all(), (
        "the adapter must overflow for this test to show anything"
    )
    torch.testing.assert_close(beside[:2], alone)


def test_single_tokens_come_before_pieces_of_texts() -> None:
    """The flattened batch has its single tokens in front, and each token at its own place."""
    long, short = sequence_of(3, tuple(range(40))), sequence_of(1, tuple(range(50, 61)))
    short.computed = 10
    chunks = in_batch_order([Chunk(long, 14, 4), Chunk(short, 10, 1)])
    batch = build(chunks, torch.device("cpu"))
    assert batch.tokens.tolist() == [60, 14, 15, 16, 17]
    assert batch.positions.tolist() == [10, 14, 15, 16, 17]
    assert batch.places.tolist() == [2 * 16 + 10, 6 * 16 + 14, 6 * 16 + 15, 7 * 16, 7 * 16 + 1]
    assert (batch.begins, batch.counts, batch.pasts) == ((0, 1), (1, 4), (10, 14))
    assert batch.tables.dtype == torch.int32
    assert batch.tables.tolist() == [[2, 3], [6, 7]]
    assert batch.sampled.tolist() == [0], "the prompt's piece is not its last"
    assert list(batch.rows) == [0]
    [segment] = batch.segments
    assert (segment.chunk, segment.begin, segment.end, segment.length) == (1, 1, 5, 18)


def test_tables_are_as_wide_as_the_longest() -> None:
    """Shorter ones are filled up with block 0, which they do not look at."""
    short, long = sequence_of(5, (1,)), sequence_of(1, (1, 2))
    long.blocks.append(9)
    batch = build([Chunk(short, 0, 1), Chunk(long, 0, 2)], torch.device("cpu"))
    assert batch.tables.tolist() == [[10, 11, 0], [2, 3, 9]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_very_different_lengths_see_their_own_and_nothing_else(dtype: torch.dtype) -> None:
    """Beside a long neighbour, in blocks out of order, over memory that holds no numbers."""
    torch.manual_seed(0)
    shape = Architecture(
        model_type="qwen3",
        hidden_size=32,
        intermediate_size=32,
        layers=1,
        heads=4,
        kv_heads=2,
        head_dim=8,
        vocab_size=99,
        context_length=256,
    )
    cache = KVCache(shape, blocks=32, dtype=dtype, device=torch.device("cpu"))
    for whole in (cache.keys[0], cache.values[0]):
        whole.fill_(float("nan"))
    numbers = torch.randperm(32).tolist()
    sequences, texts = [], []
    for slot, length in enumerate((1, 130, 16, 17, 33)):
        sequence = sequence_of(slot, tuple(range(length)))
        sequence.blocks[:] = array("i", [numbers.pop() for _ in range(-(-length // 16))])
        keys, values = torch.randn(2, length, 2, 8, dtype=dtype)
        for position in range(length):
            place = sequence.blocks[position // 16], slice(None), position % 16
            cache.keys[0][place], cache.values[0][place] = keys[position], values[position]
        sequences.append(sequence)
        texts.append((keys, values))
    chunks = [Chunk(each, len(each.tokens) - 1, 1) for each in sequences[:-1]]
    chunks.append(Chunk(sequences[-1], 30, 3))
    batch = build(chunks, torch.device("cpu"))
    queries = torch.randn(7, 4, 8, dtype=dtype)
    keys = torch.cat([keys[c.start : c.end] for c, (keys, _) in zip(chunks, texts, strict=True)])
    values = torch.cat([vals[c.start : c.end] for c, (_, vals) in zip(chunks, texts, strict=True)])
    found = StepAttention(batch, cache)(0, queries, keys, values)
    for token, (chunk, last) in enumerate([(c, p) for c in range(5) for p in spread(chunks[c])]):
        k, v = (each[: last + 1].float().repeat_interleave(2, dim=1) for each in texts[chunk])
        scores = torch.einsum("hd,lhd->hl", queries[token].float(), k) / 8**0.5
        expected = torch.einsum("hl,lhd->hd", scores.softmax(-1), v)
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(found[token].float(), expected, rtol=tolerance, atol=tolerance)


def spread(chunk: Chunk) -> range:
    return range(chunk.start, chunk.end)


@pytest.mark.parametrize("past", [0, 3])
def test_the_mask_shows_each_token_the_past_and_itself(past: int) -> None:
    """Row i of a chunk sees positions 0 to past + i, nothing later."""
    mask = causal_mask(past, 4, torch.float32, torch.device("cpu"))
    visible = (mask == 0).tolist()
    assert visible == [[column <= past + row for column in range(past + 4)] for row in range(4)]
