"""How likely a prompt is: its logprobs are the model's, whatever cuts, caches or crowds it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from adapters.base import Base
from server.engine.blocks import BlockPool
from server.engine.draw import Drawn, Scores
from server.engine.errors import PromptTooLong
from server.engine.native.build import library
from server.engine.scheduler import SCORED_TOKENS, Scheduler
from server.engine.sequence import Chunk
from server.engine.steps import per_sequence
from server.engine.types import Delta, Event, Finished, SamplingParams, Scored, TokenLogprobs
from tests.server.engine.harness import Running, prompt_of, read, running
from tests.server.engine.scripted import sequence
from tests.server.engine.test_parity import KERNELS

pytestmark = [
    pytest.mark.anyio,
    # PEFT asks transformers by a name that transformers 5.23 deprecates.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
needs_native = pytest.mark.skipif(library() is None, reason="needs a C compiler")

LONG = 2 * SCORED_TOKENS + 44


def asking(prompt_logprobs: int = 2, max_tokens: int = 0, **values: Any) -> SamplingParams:
    given: dict[str, Any] = {"temperature": 0.0, "max_tokens": max_tokens, **values}
    return SamplingParams(prompt_logprobs=prompt_logprobs, **given)


async def events(
    engine: Running, model: str, prompt: tuple[int, ...], sampling: SamplingParams
) -> list[Event]:
    return await read(await engine.submit(model, prompt, sampling))


async def scored(
    engine: Running, model: str, prompt: tuple[int, ...], sampling: SamplingParams | None = None
) -> Scored:
    """What is said of the prompt, which is said once and first."""
    first, *rest = await events(engine, model, prompt, sampling or asking())
    assert isinstance(first, Scored)
    assert not any(isinstance(event, Scored) for event in rest)
    return first


def logprobs_of(base: Path, adapter: Path | None, prompt: tuple[int, ...]) -> torch.Tensor:
    """Log-softmax of transformers (with PEFT) after all tokens but the last: [T - 1, vocab]."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt])).logits[0, :-1]
    return logits.double().log_softmax(-1)


def assert_like(found: Scored, prompt: tuple[int, ...], expected: torch.Tensor) -> None:
    assert (found.first, *(each.token for each in found.logprobs)) == prompt
    for each, row in zip(found.logprobs, expected, strict=True):
        assert each.logprob == pytest.approx(float(row[each.token]), abs=1e-4)
        best = row.topk(2)
        assert [token for token, _ in each.alternatives] == best.indices.tolist()
        assert [value for _, value in each.alternatives] == pytest.approx(
            best.values.tolist(), abs=1e-4
        )


@pytest.mark.parametrize("kernels", KERNELS)
async def test_the_prompts_logprobs_are_those_of_transformers_and_peft(
    kernels: str,
    base: Base,
    adapter_paths: dict[str, dict[str, Path]],
    registries: dict[str, Path],
) -> None:
    """Side by side, with an adapter as without, a long one in several steps."""
    jobs = [
        ("qwen3", None, prompt_of(LONG)),
        ("full", adapter_paths["qwen3"]["full"], prompt_of(40)),
    ]
    async with running(base, registries["qwen3"], kernels=kernels) as engine:
        found = await asyncio.gather(*(scored(engine, name, prompt) for name, _, prompt in jobs))
    for told, (_, path, prompt) in zip(found, jobs, strict=True):
        assert_like(told, prompt, logprobs_of(base.path, path, prompt))


@needs_native
@pytest.mark.parametrize("weights", ["fp32", "int8"])
async def test_they_are_the_same_bit_for_bit_in_any_pieces_and_company(
    weights: str, base: Base, registries: dict[str, Path]
) -> None:
    """Cut into other pieces, beside others, and guessed ahead in the same steps."""
    prompt, other = prompt_of(90), prompt_of(50, seed=4)
    common: dict[str, Any] = {"kernels": "native", "weights": weights}
    async with running(base, registries["qwen3"], **common) as engine:
        alone = await scored(engine, "full", prompt)
    crowded = {**common, "prefill_chunk_tokens": 7, "speculative_tokens": 3}
    async with running(base, registries["qwen3"], **crowded) as engine:
        busy = asyncio.gather(
            events(engine, "qwen3", other, SamplingParams(temperature=0.0, max_tokens=60)),
            scored(engine, "wide", other, asking(max_tokens=9)),
        )
        assert await scored(engine, "full", prompt) == alone
        await busy


@pytest.mark.parametrize("kernels", KERNELS)
async def test_what_the_cache_knows_is_scored_all_the_same(
    kernels: str, base: Base, tmp_path: Path
) -> None:
    """Nothing is skipped, and what was computed for it serves the next, who asks for no scores."""
    prompt = prompt_of(85)
    async with running(base, tmp_path, kernels=kernels) as engine:
        first = await scored(engine, base.name, prompt, asking(max_tokens=3))
        again = await events(engine, base.name, prompt, asking(max_tokens=3))
        plain = await events(engine, base.name, prompt, SamplingParams(max_tokens=1))
    assert [each.token for each in again[0].logprobs] == [each.token for each in first.logprobs]
    assert [each.logprob for each in again[0].logprobs] == pytest.approx(
        [each.logprob for each in first.logprobs], abs=1e-4
    )
    ends = [found[-1] for found in (again, plain)]
    cached = [end.cached_tokens for end in ends if isinstance(end, Finished)]
    assert cached[0] == 0
    assert cached[1] >= 80


@needs_native
async def test_who_is_pre_empted_is_scored_the_same(base: Base, tmp_path: Path) -> None:
    """Once, whether its prompt was computed by then or only in part."""
    prompts = [prompt_of(25, seed=seed) for seed in range(4)]
    ways = [asking(max_tokens=38), asking(max_tokens=39)]
    jobs = [(prompt, way) for prompt, way in zip(prompts, ways * 2, strict=True)]
    async with running(base, tmp_path) as engine:
        expected = [await events(engine, base.name, *job) for job in jobs]
    settings = {"max_context": 64, "kv_cache_tokens": 128, "prefill_chunk_tokens": 9}
    async with running(base, tmp_path, **settings) as engine:
        throttle = engine.throttle()
        generations = [await engine.submit(base.name, *job) for job in jobs]
        throttle.open()
        found = await asyncio.gather(*map(read, generations))
        assert sum(one.preemptions for one in engine.sequences) > 0, "nothing was shown"
    assert [each[:-1] for each in found] == [each[:-1] for each in expected]


@needs_native
async def test_a_reply_is_as_likely_when_it_is_given(
    base: Base, registries: dict[str, Path]
) -> None:
    """To the last bit: what was drawn, and the same as the end of a prompt."""
    prompt = prompt_of(30)
    drawn = SamplingParams(max_tokens=20, seed=3, logprobs=2, ignore_eos=True)
    async with running(base, registries["qwen3"], kernels="native") as engine:
        reply = await events(engine, "full", prompt, drawn)
        said = [each for event in reply if isinstance(event, Delta) for each in event.logprobs]
        whole = (*prompt, *(each.token for each in said))
        told = await scored(engine, "full", whole)
    assert list(told.logprobs[-20:]) == said


@pytest.mark.parametrize("kernels", KERNELS)
async def test_no_reply_is_made_where_none_is_asked_for(
    kernels: str, base: Base, tmp_path: Path
) -> None:
    """The end says how long the prompt was; with scores or without."""
    async with running(base, tmp_path, kernels=kernels) as engine:
        told, *rest = await events(engine, base.name, (5, 6, 7), asking())
        none = await events(engine, base.name, (5, 6, 7), SamplingParams(max_tokens=0))
    assert isinstance(told, Scored)
    assert [each.token for each in told.logprobs] == [6, 7]
    assert rest == [Finished("length", 3, 0)]
    assert [type(event) for event in none] == [Finished]


async def test_nothing_precedes_a_single_token(base: Base, tmp_path: Path) -> None:
    """It has no logprob; of a reply to it nothing is missing."""
    async with running(base, tmp_path) as engine:
        told, *rest = await events(engine, base.name, (65,), asking(max_tokens=4))
    assert told == Scored(65, ())
    assert len(rest) == 5


@pytest.mark.parametrize("speculative_tokens", [0, 4])
async def test_a_prompt_may_fill_the_context(
    speculative_tokens: int, base: Base, tmp_path: Path
) -> None:
    """Where no reply has to have room, to the last block of the cache; and no further."""
    settings = {"max_context": 64, "kv_cache_tokens": 64, "speculative_tokens": speculative_tokens}
    async with running(base, tmp_path, **settings) as engine:
        told = await scored(engine, base.name, (7,) * 64)
        with pytest.raises(PromptTooLong):
            await engine.submit(base.name, (7,) * 65, asking())
        with pytest.raises(PromptTooLong):
            await engine.submit(base.name, (7,) * 64, asking(max_tokens=1))
    assert len(told.logprobs) == 63


def test_a_step_keeps_the_logits_of_a_bounded_number_of_tokens() -> None:
    """Of all prompts that are scored together; the others are not held up by it."""
    scheduler = Scheduler(max_running=8, prefill_tokens=500, pool=BlockPool(100))
    for key, prompt_logprobs in enumerate([0, 0, None]):
        one = sequence(key, prompt=range(key, key + 150))
        one.sampling = SamplingParams(prompt_logprobs=prompt_logprobs)
        scheduler.add(one)
    planned = []
    for _ in range(2):
        chunks = scheduler.plan()
        planned.append([(chunk.sequence.key, chunk.count, len(chunk.scored)) for chunk in chunks])
        scheduler.advance(chunks)

    left = 149 - SCORED_TOKENS
    assert planned[0] == [(0, SCORED_TOKENS, SCORED_TOKENS), (2, 150, 0)]
    assert planned[1][:2] == [(0, left + 1, left), (1, SCORED_TOKENS - left, SCORED_TOKENS - left)]


def test_what_was_scored_before_a_pre_emption_is_kept_once() -> None:
    """Steps that are computed again, or were in flight, say it again."""
    one = sequence(0, prompt=6)
    found = [TokenLogprobs(token, -1.0) for token in range(1, 6)]
    for begin, end in ((1, 3), (1, 3), (2, 4), (1, 2), (4, 6)):
        one.score(Scores(begin, tuple(found[begin - 1 : end - 1])))
    assert one.scores == found


def test_a_prompt_without_numbers_says_why() -> None:
    """Where one logprob is none, the reply fails with that reason instead of going on."""
    chunk = Chunk(sequence(0, prompt=9), 0, 5, scored=range(3, 5))
    fine, failed = Drawn(5, TokenLogprobs(5, -1.0)), Drawn(None, failure="not finite")
    assert per_sequence([chunk], [fine, fine]) == [
        (chunk.sequence, Scores(4, (TokenLogprobs(5, -1.0),) * 2))
    ]
    assert per_sequence([chunk], [fine, failed]) == [(chunk.sequence, failed)]
