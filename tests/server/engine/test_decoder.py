"""The forward pass where equal tokens cannot tell: rounding in bf16, rows beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from adapters.base import Base
from adapters.registry import Registry
from server.engine.batch import build, causal_mask, in_batch_order
from server.engine.config import EngineConfig
from server.engine.lora import LoadedAdapter
from server.engine.runner import Runner
from server.engine.sequence import Chunk, Sequence
from server.engine.text import Detokenizer, Reply
from server.engine.types import SamplingParams
from tests.server.engine.harness import prompt_of


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
    sequence.slot = slot
    return sequence


def logits_of(runner: Runner, chunks: list[Chunk]) -> torch.Tensor:
    """The logits that a step over ``chunks`` (in batch order) would sample from."""
    with torch.inference_mode():
        batch = build(chunks, dtype=runner._dtype, device=runner._device)
        lora = runner._active.step(batch, [chunk.sequence.adapter for chunk in chunks])
        return runner._decoder.forward(batch, runner._cache, lora)


def test_bf16_is_as_close_to_fp32_as_transformers_in_bf16(base: Base, tmp_path: Path) -> None:
    """Rounding is no worse than the oracle's: no step is done in a coarser type than there."""
    prompts = [prompt_of(20, seed=seed) for seed in range(8)]
    runner = Runner(EngineConfig(base=base, registry_root=tmp_path, weights="bf16", device="cpu"))
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
    runner = Runner(EngineConfig(base=base, registry_root=tmp_path, weights="fp32", device="cpu"))
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


def test_single_tokens_come_before_pieces_of_prompts() -> None:
    """The flattened batch has its decode rows in front, and each token at its own place."""
    long, short = sequence_of(0, (1, 2, 3, 4, 5)), sequence_of(1, (6, 7))
    short.computed = 1
    chunks = in_batch_order([Chunk(long, 1, 3), Chunk(short, 1, 1)])
    batch = build(chunks, dtype=torch.float32, device=torch.device("cpu"))
    assert batch.tokens.tolist() == [7, 2, 3, 4]
    assert batch.positions.tolist() == [1, 1, 2, 3]
    assert batch.slots.tolist() == [1, 0, 0, 0]
    assert batch.sampled.tolist() == [0], "the prompt's piece is not its last"
    assert [row.length for row in batch.rows] == [2]
    assert [(one.begin, one.end, one.past) for one in batch.segments] == [(1, 4, 1)]


@pytest.mark.parametrize("past", [0, 3])
def test_the_mask_shows_each_token_the_past_and_itself(past: int) -> None:
    """Row i of a chunk sees positions 0 to past + i, nothing later."""
    mask = causal_mask(past, 4, torch.float32, torch.device("cpu"))
    visible = (mask == 0).tolist()
    assert visible == [[column <= past + row for column in range(past + 4)] for row in range(4)]
