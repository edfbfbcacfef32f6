"""Many generations at once: each reply is the one it would be alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adapters.base import Base
from server.engine.types import SamplingParams
from tests.server.engine.harness import FAMILIES, prompt_of, read, running, text_of

pytestmark = pytest.mark.anyio


def jobs(family: str) -> list[tuple[str, tuple[int, ...], SamplingParams]]:
    """Eight generations over three adapters and the base, of unequal lengths."""
    names = [family, "full", "wide", "stable", "full", family, "stable", "wide"]
    lengths = [3, 40, 1, 17, 90, 25, 60, 8]
    return [
        (name, prompt_of(length, seed=index), SamplingParams(temperature=0.0, max_tokens=tokens))
        for index, (name, length, tokens) in enumerate(
            zip(names, lengths, [30, 5, 22, 11, 18, 40, 9, 26], strict=True)
        )
    ]


@pytest.mark.parametrize("family", FAMILIES)
async def test_staggered_mixed_generations_equal_their_solo_replies(
    family: str, bases: dict[str, Base], registries: dict[str, Path]
) -> None:
    """Whoever joins or leaves, and whatever adapters are beside it, a greedy reply is its own."""
    async with running(bases[family], registries[family], prefill_chunk_tokens=16) as engine:
        alone = [await engine.tokens(*job) for job in jobs(family)]
        first = len(engine.sequences)
        throttle = engine.throttle()
        readers = []
        for job in jobs(family):  # one joins at each of the first steps
            readers.append(asyncio.create_task(read(await engine.submit(*job))))
            await throttle.planned()
            throttle.step()
        throttle.open()
        await asyncio.gather(*readers)
        together = [
            sequence.tokens[sequence.prompt_tokens :] for sequence in engine.sequences[first:]
        ]
    assert together == alone


async def test_more_generations_than_rows_take_turns(
    base: Base, registries: dict[str, Path]
) -> None:
    """With two rows for eight generations the later ones wait, and all get their solo replies."""
    async with running(base, registries["qwen3"], max_running=2) as engine:
        alone = [await engine.tokens(*job) for job in jobs("qwen3")]
        first = len(engine.sequences)
        generations = [await engine.submit(*job) for job in jobs("qwen3")]
        await asyncio.gather(*map(read, generations))
        together = [
            sequence.tokens[sequence.prompt_tokens :] for sequence in engine.sequences[first:]
        ]
    assert together == alone


async def test_a_seed_gives_the_same_reply_alone_and_in_company(
    base: Base, registries: dict[str, Path]
) -> None:
    """Sampling uses nothing of the neighbours; another seed gives another reply."""
    sampling = SamplingParams(temperature=1.5, top_p=0.95, max_tokens=30, seed=7)
    prompt = prompt_of(12)
    async with running(base, registries["qwen3"]) as engine:
        alone = await engine.tokens("full", prompt, sampling)
        other = await engine.tokens("full", prompt, SamplingParams(**_values(sampling, seed=8)))
        neighbours = [
            await engine.submit(name, prompt_of(9, seed=seed), SamplingParams(max_tokens=40))
            for seed, name in enumerate(["wide", "qwen3", "full", "stable"])
        ]
        readers = [asyncio.create_task(read(neighbour)) for neighbour in neighbours]
        assert await engine.tokens("full", prompt, sampling) == alone
        await asyncio.gather(*readers)
    assert other != alone


async def test_without_a_seed_replies_differ(base: Base, tmp_path: Path) -> None:
    """Each unseeded generation draws its own seed."""
    sampling = SamplingParams(temperature=2.0, max_tokens=30)
    async with running(base, tmp_path) as engine:
        replies = {tuple(await engine.tokens(base.name, (1, 2), sampling)) for _ in range(3)}
    assert len(replies) == 3


async def test_a_new_prompt_does_not_stop_the_running_replies(base: Base, tmp_path: Path) -> None:
    """While a long prompt is computed in chunks, a running reply gets a token in every step."""
    async with running(base, tmp_path, prefill_chunk_tokens=8) as engine:
        throttle = engine.throttle()
        talking = await engine.submit(base.name, (1, 2, 3))
        await throttle.planned()
        arriving = await engine.submit(base.name, prompt_of(40))
        counts = []
        for _ in range(5):
            throttle.step()
            counts.append([chunk.count for chunk in await throttle.planned()])
        throttle.open()
        await asyncio.gather(read(talking), read(arriving))
    assert counts == [[1, 8]] * 5


async def test_streamed_text_is_the_decoded_reply(base: Base, tmp_path: Path) -> None:
    """What is streamed adds up to the text of the tokens, for seeded nonsense of any bytes."""
    async with running(base, tmp_path) as engine:
        for seed in range(5):
            sampling = SamplingParams(temperature=3.0, max_tokens=60, seed=seed)
            events = await read(await engine.submit(base.name, (1,), sampling))
            tokens = [one for one in engine.sequences[-1].tokens[1:] if one < 256]
            decoded = engine.engine._parts.tokenizer._tokenizer.decode(tokens)
            assert text_of(events) == decoded


def _values(sampling: SamplingParams, **changes: object) -> dict[str, object]:
    names = ("temperature", "top_p", "max_tokens", "seed")
    return {name: getattr(sampling, name) for name in names} | changes
