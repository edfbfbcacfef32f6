"""Whole engines with the steps of a GPU: replies are those of transformers and PEFT, and ours.

On the CPU formulas stand for the kernels, and steps that would be graphs are played.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.base import Base
from server.engine.cuda.sampler import Sampler
from server.engine.cuda.steps import CudaSteps
from server.engine.guess import Guesser
from server.engine.types import SamplingParams
from tests.server.engine.harness import (
    FAMILIES,
    GREEDY,
    Publish,
    Running,
    prompt_of,
    read,
    running,
)
from tests.server.engine.test_ahead import HOT, WAYS, outcome
from tests.server.engine.test_parity import reference
from tests.server.engine.test_scoring import asking, assert_like, logprobs_of, scored
from tests.server.engine.test_trial import assert_refused_alone

pytestmark = [
    pytest.mark.anyio,
    # PEFT asks transformers by a name that transformers 5.23 deprecates.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

LOOP = prompt_of(12) * 4  # greedy replies to it repeat


def steps_of(engine: Running) -> CudaSteps:
    steps = engine.engine._parts.loop._runner._steps
    assert isinstance(steps, CudaSteps)
    if steps._device.type == "cuda":
        for graphs in (steps._single_graphs, steps._bodies, steps._heads):
            assert len(graphs), "steps are played"
    return steps


@pytest.mark.parametrize("family", FAMILIES)
async def test_base_and_adapters_together_reply_as_transformers_and_peft_do(
    family: str,
    bases: dict[str, Base],
    adapter_paths: dict[str, dict[str, Path]],
    registries: dict[str, Path],
    computed_on: str,
) -> None:
    """Prompts in pieces beside single tokens, adapters of every rank and subset in one batch."""
    jobs = [
        (name, path, prompt_of(30 + 7 * at, seed=at))
        for at, (name, path) in enumerate([(family, None), *adapter_paths[family].items()])
    ]
    settings = {"device": computed_on, "prefill_chunk_tokens": 24}
    async with running(bases[family], registries[family], **settings) as engine:
        steps_of(engine)
        found = await asyncio.gather(*(reply(engine, name, prompt) for name, _, prompt in jobs))
    for (name, path, prompt), tokens in zip(jobs, found, strict=True):
        assert tokens == reference(bases[family].path, path, prompt), name


async def reply(
    engine: Running, name: str, prompt: tuple[int, ...], way: SamplingParams = GREEDY
) -> list[int]:
    generation = await engine.submit(name, prompt, way)
    sequence = engine.sequences[-1]
    await read(generation)
    return sequence.tokens[len(prompt) :]


async def outcomes(
    base: Base, registries: dict[str, Path], ways: Sequence[SamplingParams], **settings: Any
) -> list[tuple[Any, ...]]:
    """Of every way with the base and two adapters, all at once."""
    jobs = [(name, way) for way in ways for name in ("qwen3", "full", "wide")]
    async with running(base, registries["qwen3"], max_waiting=40, **settings) as engine:
        return await asyncio.gather(
            *(outcome(engine, name, at, way) for at, (name, way) in enumerate(jobs))
        )


async def reference_outcomes(
    base: Base, registries: dict[str, Path], ways: Sequence[SamplingParams]
) -> list[tuple[Any, ...]]:
    """The same by torch alone."""
    from server.engine.model import load_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.engine.runner.load_model", load_model)
        return await outcomes(base, registries, ways, kernels="torch")


async def test_every_way_to_reply_is_that_of_the_reference(
    base: Base, registries: dict[str, Path], computed_on: str
) -> None:
    """Filters, penalties, grammars, biases, logprobs and stops, in a cache that is too small."""
    small = {"max_context": 64, "kv_cache_tokens": 112, "prefill_chunk_tokens": 24}
    found = await outcomes(base, registries, WAYS, device=computed_on, max_running=6, **small)
    expected = await reference_outcomes(base, registries, WAYS)
    for (texts, *end), (their_texts, *their_end) in zip(found, expected, strict=True):
        assert end == their_end
        assert [text for text, _ in texts] == [text for text, _ in their_texts]
        for (_, ours), (_, theirs) in zip(texts, their_texts, strict=True):
            assert [one.token for one in ours] == [one.token for one in theirs]
            for one, other in zip(ours, theirs, strict=True):
                assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
                assert [token for token, _ in one.alternatives] == [
                    token for token, _ in other.alternatives
                ]


async def test_rows_that_only_go_on_are_told_their_numbers_alone(
    base: Base, registries: dict[str, Path], computed_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy and drawn replies of other lengths, some of which withhold their end for a while."""
    ways = [
        *(replace(HOT, seed=seed, max_tokens=20 + seed) for seed in range(3)),
        replace(HOT, temperature=0.0),
        replace(HOT, ignore_eos=False, stop_token_ids=tuple(range(60, 70)), min_tokens=12),
    ]
    went_on = []
    plain = Sampler.goes_on

    def noted(self: Sampler, uniforms: Sequence[float]) -> bool:
        went_on.append(plain(self, uniforms))
        return went_on[-1]

    monkeypatch.setattr(Sampler, "goes_on", noted)
    found = await outcomes(base, registries, ways, device=computed_on)

    assert went_on.count(True) > 15
    assert found == await reference_outcomes(base, registries, ways)


async def test_adapters_of_ranks_beyond_the_graphs_are_in_steps_of_their_own_kind(
    base: Base, registries: dict[str, Path], computed_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of seven among others of four and of none, where graphs have room for five."""
    monkeypatch.setattr("server.engine.cuda.steps.GRAPH_RANK", 5)
    ways = [replace(HOT, temperature=0.0, max_tokens=8), replace(HOT, max_tokens=12)]
    found = await outcomes(base, registries, ways, device=computed_on, max_running=4)
    assert found == await reference_outcomes(base, registries, ways)


async def test_a_reply_that_begins_with_a_single_token_has_its_adapter(
    base: Base,
    adapter_paths: dict[str, dict[str, Path]],
    registries: dict[str, Path],
    computed_on: str,
) -> None:
    """Right behind a step of the base, and the other way round."""
    jobs = [("qwen3", None), ("full", adapter_paths["qwen3"]["full"])] * 2
    async with running(base, registries["qwen3"], device=computed_on) as engine:
        await engine.load("full")
        await reply(engine, "qwen3", prompt_of(20))
        found = [await reply(engine, name, (65,)) for name, _ in reversed(jobs)]
    assert found == [reference(base.path, path, (65,)) for _, path in reversed(jobs)]


async def test_guesses_are_computed_as_pieces_are(
    base: Base, registries: dict[str, Path], computed_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a reply in rounds many are right, beside drawn ones; it is as without guesses."""
    ways = [GREEDY, replace(HOT, temperature=0.4, max_tokens=30)]
    jobs = [(name, way) for way in ways for name in ("qwen3", "full")]
    settings = {"device": computed_on, "speculative_tokens": 6}
    guesses: list[tuple[int, int]] = []
    learn = Guesser.learn

    def noted(guesser: Guesser, guessed: int, right: int) -> None:
        if guessed:
            guesses.append((guessed, right))
        learn(guesser, guessed, right)

    monkeypatch.setattr(Guesser, "learn", noted)
    async with running(base, registries["qwen3"], **settings) as engine:
        steps_of(engine)
        found = await asyncio.gather(*(reply(engine, name, LOOP, way) for name, way in jobs))
    async with running(base, registries["qwen3"], device=computed_on) as engine:
        expected = await asyncio.gather(*(reply(engine, name, LOOP, way) for name, way in jobs))
    assert found == expected
    guessed, right = (sum(each) for each in zip(*guesses, strict=True))
    assert right > guessed / 3 > 10  # in how many steps depends on when each reply began


async def test_an_adapter_that_overflows_is_in_no_step_with_others(
    base: Base, publish: Publish, computed_on: str
) -> None:
    """It is refused by name while others are replied to, whose replies are as without it."""
    await assert_refused_alone(base, publish, device=computed_on)


async def test_prompts_are_scored_beside_replies(
    base: Base,
    adapter_paths: dict[str, dict[str, Path]],
    registries: dict[str, Path],
    computed_on: str,
) -> None:
    """Logprobs as transformers' and PEFT's, of prompts in pieces, while others are replied to."""
    jobs = [("qwen3", None, prompt_of(60)), ("full", adapter_paths["qwen3"]["full"], prompt_of(33))]
    settings = {"device": computed_on, "prefill_chunk_tokens": 24}
    async with running(base, registries["qwen3"], **settings) as engine:
        steps_of(engine)
        busy = asyncio.gather(*(reply(engine, "wide", prompt_of(9, seed=at)) for at in range(3)))
        found = await asyncio.gather(*(scored(engine, name, prompt) for name, _, prompt in jobs))
        again = await scored(engine, "qwen3", jobs[0][2], asking(max_tokens=5))
        await busy
    for told, (_, path, prompt) in zip([*found, again], [*jobs, jobs[0]], strict=True):
        assert_like(told, prompt, logprobs_of(base.path, path, prompt))
