"""Guessed tokens change how quickly a reply comes, and nothing else about it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from adapters.base import Base
from server.engine.batch import build
from server.engine.draw import Drawn
from server.engine.native.build import library
from server.engine.sequence import Chunk
from server.engine.steps import in_line
from server.engine.types import Delta, Finished, SamplingParams
from tests.server.engine.harness import Running, prompt_of, read, running
from tests.server.engine.scripted import sequence

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(library() is None, reason="needs a C compiler: torch's sums differ"),
]

# A loop of the tiny base: greedy replies to it repeat, sampled ones do now and then.
ROUND = prompt_of(12) * 4
WAYS = (
    SamplingParams(temperature=0.0, max_tokens=40),
    SamplingParams(temperature=0.4, seed=5, max_tokens=40, repetition_penalty=0.8),
    SamplingParams(temperature=0.3, seed=6, max_tokens=40, frequency_penalty=-0.5, logprobs=2),
    SamplingParams(temperature=0.0, max_tokens=40, min_tokens=30, stop=("o",)),
)


async def replies(
    base: Base, registry: Path, weights: str, speculative_tokens: int
) -> tuple[list[object], int]:
    """Tokens, text and logprobs of replies alone and together; and the steps it took."""
    settings = {"weights": weights, "speculative_tokens": speculative_tokens}
    jobs = [(name, way) for way in WAYS for name in ("qwen3", "full")]
    async with running(base, registry, **settings) as engine:
        steps = count_steps(engine)
        found = [await outcome(engine, name, way) for name, way in jobs]
        found += await asyncio.gather(*(outcome(engine, name, way) for name, way in jobs))
        return found, len(steps)


async def outcome(engine: Running, name: str, way: SamplingParams) -> object:
    generation = await engine.submit(name, ROUND, way)
    *deltas, last = await read(generation)
    texts = [(one.text, one.logprobs) for one in deltas if isinstance(one, Delta)]
    assert isinstance(last, Finished)
    return texts, last.reason, last.completion_tokens


def count_steps(engine: Running) -> list[int]:
    steps: list[int] = []
    runner = engine.engine._parts.loop._runner
    launch = runner.launch
    runner.launch = lambda chunks: steps.append(len(chunks)) or launch(chunks)
    return steps


@pytest.mark.parametrize("weights", ["fp32", "int8", "nf4"])
async def test_replies_are_the_same_and_take_fewer_steps(
    weights: str, base: Base, registries: dict[str, Path]
) -> None:
    """Text, logprobs and ends bit for bit, alone and in company, with penalties and stops."""
    plain, plain_steps = await replies(base, registries["qwen3"], weights, 0)
    guessed, guessed_steps = await replies(base, registries["qwen3"], weights, 8)
    assert guessed == plain
    assert guessed_steps < 0.8 * plain_steps


async def test_guesses_give_way_where_the_cache_is_short(base: Base, tmp_path: Path) -> None:
    """They take only blocks that are free, and give back what was guessed wrong."""
    tight = {"max_context": 128, "kv_cache_tokens": 160, "max_running": 4}
    way = SamplingParams(temperature=0.0, max_tokens=60)
    found = []
    for speculative_tokens in (0, 8):
        settings = {**tight, "speculative_tokens": speculative_tokens}
        async with running(base, tmp_path, **settings) as engine:
            jobs = (engine.tokens(base.name, ROUND[at:], way) for at in range(4))
            await asyncio.gather(*jobs)
            found.append(sorted(tuple(one.tokens) for one in engine.sequences))
    assert found[0] == found[1]


def test_what_follows_a_wrong_guess_is_dropped() -> None:
    """Each drawn token counts if all guesses before it were right."""
    drawn = [Drawn(token) for token in (5, 6, 7, 8)]
    assert in_line((5, 6, 7), drawn) == drawn
    assert in_line((5, 9, 7), drawn) == drawn[:2]
    assert in_line((9, 6, 7), drawn) == drawn[:1]
    assert in_line((), drawn[:1]) == drawn[:1]
    failed = [Drawn(5), Drawn(None, failure="not finite"), Drawn(7)]
    assert in_line((5, 6), failed) == failed[:2]


def test_a_guess_is_computed_after_the_known_tokens() -> None:
    """It has positions and places of its own, and every successor from the last known token on."""
    one = sequence(0, (11, 12, 13, 14))
    one.blocks.extend([3])
    chunk = Chunk(one, 3, 3, (21, 22))
    batch = build([chunk], torch.device("cpu"))
    assert batch.tokens.tolist() == [14, 21, 22]
    assert batch.positions.tolist() == [3, 4, 5]
    assert batch.places.tolist() == [51, 52, 53]
    assert batch.sampled.tolist() == [0, 1, 2]
