"""Real replies over the paged cache: reused, shared, evicted or pre-empted, they stay the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from adapters.base import Base
from server.engine.types import Finished, SamplingParams
from tests.server.engine.harness import GREEDY, Publish, Running, prompt_of, read, running

pytestmark = pytest.mark.anyio

HOT = SamplingParams(temperature=1.5, max_tokens=30, seed=7)


def of_length(max_tokens: int, **values: Any) -> SamplingParams:
    return SamplingParams(**{"temperature": 0.0, "max_tokens": max_tokens, **values})


async def together(
    engine: Running, jobs: list[tuple[str, tuple[int, ...], SamplingParams]]
) -> list[list[int]]:
    """Submit all before the first step; their replies."""
    first = len(engine.sequences)
    await engine.load(*(model for model, _, _ in jobs))
    throttle = engine.throttle()
    generations = [await engine.submit(*job) for job in jobs]
    throttle.open()
    await asyncio.gather(*map(read, generations))
    return [one.tokens[one.prompt_tokens :] for one in engine.sequences[first:]]


async def alone(
    base: Base, registry: Path, jobs: list[tuple[str, tuple[int, ...], SamplingParams]]
) -> list[list[int]]:
    """The same, one after the other, without a prefix cache."""
    async with running(base, registry, prefix_cache=False) as engine:
        return [await engine.tokens(*job) for job in jobs]


@pytest.mark.parametrize("prefix_cache", [True, False])
@pytest.mark.parametrize("kernels", ["auto", "torch"])
async def test_a_reply_that_was_pre_empted_is_the_same(
    kernels: str, prefix_cache: bool, base: Base, registries: dict[str, Path]
) -> None:
    """Computed again from its tokens, greedy or sampled, for base and adapters."""
    jobs = [
        (name, prompt_of(25, seed=seed), sampling)
        for seed, (name, sampling) in enumerate(
            [("qwen3", of_length(38)), ("full", HOT), ("wide", of_length(35)), ("full", HOT)]
        )
    ]
    expected = await alone(base, registries["qwen3"], jobs)
    settings = {"max_context": 64, "kv_cache_tokens": 128, "prefix_cache": prefix_cache}
    async with running(base, registries["qwen3"], kernels=kernels, **settings) as engine:
        assert await together(engine, jobs) == expected
        assert sum(one.preemptions for one in engine.sequences) > 0, "nothing was shown"
        assert engine.sequences[-4].preemptions == 0, "the oldest always gets on"


async def test_a_pre_empted_reply_can_be_aborted(base: Base, tmp_path: Path) -> None:
    """It is told so within the step, and holds nothing."""
    settings = {"max_context": 64, "kv_cache_tokens": 64}
    async with running(base, tmp_path, **settings) as engine:
        throttle = engine.throttle()
        old = await engine.submit(base.name, prompt_of(20, seed=1), of_length(40))
        young = await engine.submit(base.name, prompt_of(20, seed=2), of_length(40))
        while not engine.sequences[1].preemptions:
            await throttle.planned()
            throttle.step()
        had = engine.sequences[1].completion_tokens
        young.abort()
        await throttle.planned()
        throttle.step()
        assert (await read(young))[-1] == Finished("abort", 20, had)
        throttle.open()
        assert (await read(old))[-1].completion_tokens == 40


@pytest.mark.parametrize("model", ["qwen3", "full"])
@pytest.mark.parametrize("kernels", ["auto", "torch"])
async def test_the_next_turn_of_a_chat_computes_only_what_is_new(
    kernels: str, model: str, base: Base, registries: dict[str, Path]
) -> None:
    """Prompt and reply of the turn before are found, and the reply is that without a cache."""
    opening, question = prompt_of(50), prompt_of(9, seed=4)
    settings = {"prefill_chunk_tokens": 32, "kernels": kernels}
    async with running(base, registries["qwen3"], **settings) as engine:
        first = await engine.tokens(model, opening, of_length(24))
        turn = (*opening, *first, *question)
        throttle = engine.throttle()
        generation = await engine.submit(model, turn, HOT)
        planned = await throttle.planned()
        assert [(chunk.start, chunk.count) for chunk in planned] == [(73, len(turn) - 73)]
        throttle.open()
        events = await read(generation)
        assert events[-1].cached_tokens == 73, "four full blocks and the part of a fifth"
        reply = engine.sequences[-1].tokens[len(turn) :]
    assert [first, reply] == await alone(
        base, registries["qwen3"], [(model, opening, of_length(24)), (model, turn, HOT)]
    )


async def test_a_prompt_that_is_wholly_known_computes_its_last_token(
    base: Base, tmp_path: Path
) -> None:
    """There is nothing to sample from otherwise, also where it ends with a block."""
    async with running(base, tmp_path) as engine:
        for length in (31, 32, 33):
            expected = await engine.tokens(base.name, prompt_of(length))
            assert await engine.tokens(base.name, prompt_of(length)) == expected
            assert engine.sequences[-1].cached_tokens == (length - 1) // 16 * 16


async def test_without_the_prefix_cache_nothing_is_found(base: Base, tmp_path: Path) -> None:
    """Switched off, every prompt is computed."""
    async with running(base, tmp_path, prefix_cache=False) as engine:
        for _ in range(2):
            await engine.tokens(base.name, prompt_of(40))
            assert engine.sequences[-1].cached_tokens == 0


async def test_two_at_once_share_their_common_beginning(
    base: Base, registries: dict[str, Path]
) -> None:
    """While both run they hold the same blocks, and each reply is its own."""
    common = prompt_of(70)
    jobs = [("full", (*common, ending), GREEDY) for ending in (1, 2, 3)]
    expected = await alone(base, registries["qwen3"], jobs)
    assert len(set(map(tuple, expected))) == 3
    async with running(base, registries["qwen3"]) as engine:
        throttle = engine.throttle()
        generations = [await engine.submit(*job) for job in jobs]
        await throttle.planned()
        throttle.step()
        planned = await throttle.planned()
        while len(planned) < 3:
            throttle.step()
            planned = await throttle.planned()
        tables = [list(one.blocks) for one in engine.sequences]
        assert tables[0][:4] == tables[1][:4] == tables[2][:4]
        assert len({table[4] for table in tables}) == 3, "what is written to is not shared"
        throttle.open()
        await asyncio.gather(*map(read, generations))
        assert [one.tokens[71:] for one in engine.sequences] == expected
        assert [one.cached_tokens for one in engine.sequences] == [0, 64, 64]


async def test_models_never_share_a_prefix(base: Base, registries: dict[str, Path]) -> None:
    """The same prompt for the base and three adapters, twice: each finds its own blocks only."""
    jobs = [(name, prompt_of(40), GREEDY) for name in ("qwen3", "full", "wide", "stable")]
    expected = await alone(base, registries["qwen3"], jobs)
    async with running(base, registries["qwen3"]) as engine:
        for found in (0, 32):
            assert await together(engine, jobs) == expected
            assert [one.cached_tokens for one in engine.sequences[-4:]] == [found] * 4


async def test_a_replaced_adapter_finds_nothing_of_the_one_before(
    base: Base, publish: Publish
) -> None:
    """The cache goes by content, so the new version under the old name starts afresh."""
    publish("moving", seed=1)
    async with running(base, publish.root) as engine:
        old = await engine.tokens("moving", prompt_of(40))
        publish("moving", seed=2)
        publish("other", seed=2)
        await engine.engine._parts.catalog.refresh()
        new = await engine.tokens("moving", prompt_of(40))
        assert engine.sequences[-1].cached_tokens == 0
        assert new != old
    async with running(base, publish.root, prefix_cache=False) as engine:
        assert await engine.tokens("other", prompt_of(40)) == new


async def test_old_prefixes_make_room_for_new_ones(base: Base, tmp_path: Path) -> None:
    """More texts than the cache holds: the oldest are forgotten, and no reply suffers."""
    prompts = [prompt_of(40, seed=seed) for seed in range(6)]
    jobs = [(base.name, prompt, of_length(8)) for prompt in prompts]
    expected = await alone(base, tmp_path, jobs)
    async with running(base, tmp_path, max_context=64, kv_cache_tokens=160) as engine:
        for _ in range(2):
            assert [await engine.tokens(*job) for job in jobs] == expected
        assert {one.cached_tokens for one in engine.sequences} == {0}
        assert await engine.tokens(*jobs[-1]) == expected[-1]
        assert engine.sequences[-1].cached_tokens == 32


async def test_many_conversations_in_a_small_cache(base: Base, registries: dict[str, Path]) -> None:
    """Pre-emption, eviction and sharing all at once, over adapters: every reply is its own."""
    jobs = [
        (name, prompt_of(20 + 7 * (number % 5)), of_length(10 + number))
        for number, name in enumerate(["qwen3", "full", "wide", "full"] * 3)
    ]
    expected = await alone(base, registries["qwen3"], jobs)
    settings = {"max_context": 80, "kv_cache_tokens": 160, "prefill_chunk_tokens": 24}
    async with running(base, registries["qwen3"], **settings) as engine:
        assert await together(engine, jobs) == expected
        assert sum(one.preemptions for one in engine.sequences) > 0
        assert sum(one.cached_tokens for one in engine.sequences) > 0
