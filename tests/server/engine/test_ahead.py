"""Steps that are launched before the one before them is read: replies are the same all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence as Rows
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.base import Base
from server.engine.blocks import BlockPool
from server.engine.errors import GenerationFailed
from server.engine.loop import Abort, EngineLoop, Notice, Reading
from server.engine.runner import Runner
from server.engine.scheduler import Scheduler
from server.engine.sequence import Chunk, Sequence
from server.engine.trial import Trial
from server.engine.types import Delta, Finished, SamplingParams
from tests.server.engine.drawing import packed
from tests.server.engine.harness import Running, prompt_of, read, running
from tests.server.engine.scripted import ScriptedRunner, expected_reply, sequence

# The engine


class Letters:
    """A grammar: even bytes and odd ones in turn, eleven of them."""

    def __init__(self) -> None:
        self.count = 0

    def mask(self) -> np.ndarray:
        return packed(np.arange(259) % 2 == self.count % 2)

    def accept(self, token: int) -> None:
        assert token % 2 == self.count % 2, "the mask was that of another place"
        self.count += 1

    @property
    def is_finished(self) -> bool:
        return self.count == 11


HOT = SamplingParams(temperature=1.5, seed=3, max_tokens=40, ignore_eos=True)
WAYS = (
    replace(HOT, temperature=0.0),
    HOT,
    replace(HOT, repetition_penalty=1.5, frequency_penalty=0.4, logprobs=2),
    replace(HOT, stop=("a", "e", "3"), min_tokens=12, logit_bias={97: 2.0}),
    replace(HOT, stop_token_ids=tuple(range(60, 90)), top_k=40),
    replace(HOT, grammar=Letters, logprobs=0),
    replace(HOT, max_tokens=1),
)


async def replies(base: Base, registry: Path, **settings: Any) -> list[tuple[object, ...]]:
    """Texts, logprobs and ends of every way to reply, of base and adapters, all at once."""
    jobs = [(name, way) for way in WAYS for name in ("qwen3", "full", "wide")]
    async with running(base, registry, max_running=6, max_waiting=40, **settings) as engine:
        return await asyncio.gather(
            *(outcome(engine, name, at, way) for at, (name, way) in enumerate(jobs))
        )


async def outcome(engine: Running, name: str, seed: int, way: SamplingParams) -> tuple[object, ...]:
    *deltas, last = await read(await engine.submit(name, prompt_of(20, seed=seed), way))
    texts = [(one.text, one.logprobs) for one in deltas if isinstance(one, Delta)]
    assert isinstance(last, Finished)
    return texts, last.reason, last.completion_tokens


@pytest.mark.anyio
async def test_replies_are_the_same_as_read_step_by_step(
    base: Base, registries: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every way to sample and to end, over adapters, in a cache that is too small for them."""
    expected = await replies(base, registries["qwen3"])
    assert {reason for _, reason, _ in expected} == {"stop", "length"}
    monkeypatch.setattr(Runner, "is_ahead", True)
    small = {"max_context": 64, "kv_cache_tokens": 112, "prefill_chunk_tokens": 24}
    assert await replies(base, registries["qwen3"], **small) == expected


# The loop


class Recorder(ScriptedRunner):
    """Notes in which order steps are launched and read, and what they compute."""

    def __init__(self) -> None:
        super().__init__(is_ahead=True)
        self.steps: list[list[tuple[int, int]]] = []
        self.order: list[str] = []
        self.broken: set[str] = set()

    def launch(self, chunks: Rows[Chunk]) -> Reading:
        number = len(self.steps)
        self.steps.append([(chunk.sequence.key, chunk.start) for chunk in chunks])
        self._note(f"launch {number}")
        reading = super().launch(chunks)

        def read() -> Any:
            self._note(f"read {number}")
            return reading()

        return read

    def is_usable(self, adapter: Any) -> bool:
        self.order.append(f"try {adapter}")
        return True

    def _note(self, what: str) -> None:
        self.order.append(what)
        if what in self.broken:
            raise RuntimeError(f"injected: {what}")


class Driven:
    """A loop without a thread. ``events``: what each sequence was told."""

    def __init__(self, blocks: int = 64) -> None:
        self.runner = Recorder()
        self.pool = BlockPool(blocks)
        self.scheduler = Scheduler(max_running=4, prefill_tokens=64, pool=self.pool)
        self.loop = EngineLoop(self.scheduler, self.runner, self.deliver)
        self.events: dict[int, list[object]] = {}

    def deliver(self, notices: list[Notice]) -> None:
        for key, event in notices:
            self.events.setdefault(key, []).append(event)

    def step(self) -> None:
        self.loop._step()
        self.loop._flush()
        self.scheduler.check_integrity()

    def run(self) -> None:
        while self.scheduler.has_work or self.loop._in_flight:
            self.step()


def prompt_with_reply(length: int, *, ends: bool) -> list[int]:
    """A prompt whose reply has ``length`` tokens, the last of which is an end marker or is not."""
    for first in range(1, 4000):
        reply = expected_reply(None, [first, 1], length if not ends else length + 9)
        if len(reply) == length and (reply[-1] == 0) == ends:
            return [first, 1]
    raise AssertionError


def test_a_step_is_launched_before_the_one_before_it_is_read() -> None:
    """So there is always one to compute; at the end nothing is left unread."""
    driven = Driven()
    driven.loop._apply(sequence(0, prompt_with_reply(3, ends=False), max_tokens=3))
    driven.run()
    assert driven.runner.order == [
        "launch 0",
        "launch 1",
        "read 0",
        "launch 2",
        "read 1",
        "read 2",
    ]
    assert driven.runner.steps == [[(0, 0)], [(0, 2)], [(0, 3)]], "nothing beyond max_tokens"


def test_a_new_adapter_is_tried_when_nothing_is_in_flight() -> None:
    """What was launched is read first and told at once; then steps are ahead again, the same."""
    driven = Driven()
    one = sequence(0, prompt_with_reply(4, ends=False), max_tokens=4)
    driven.loop._apply(one)
    driven.step()
    driven.step()
    trials = [Trial("a"), Trial("b")]
    for trial in trials:
        driven.loop._apply(trial)
        driven.loop._try_one()
    assert len(driven.events[0]) == 2
    driven.run()
    assert driven.runner.order[:4] == ["launch 0", "launch 1", "read 0", "read 1"]
    assert driven.runner.order[4:8] == ["try a", "try b", "launch 2", "launch 3"]
    assert [trial.is_usable.result(0) for trial in trials] == [True, True]
    assert one.tokens[2:] == expected_reply(None, one.tokens[:2], 4)


def test_the_row_behind_an_end_marker_is_wasted_and_its_token_dropped() -> None:
    """Who ends before the limit has one more token in flight; the reply does not have it."""
    driven = Driven()
    one = sequence(0, prompt_with_reply(3, ends=True), max_tokens=9)
    driven.loop._apply(one)
    driven.run()
    assert driven.runner.steps == [[(0, 0)], [(0, 2)], [(0, 3)], [(0, 4)]]
    assert one.tokens[2:] == expected_reply(None, one.tokens[:2], 9)
    assert driven.events[0][-1] == Finished("stop", 2, 3)


def test_what_depends_on_the_token_before_waits_for_it() -> None:
    """A reply with a grammar is in every other step, and its neighbours in every one."""
    driven = Driven()
    held, free = sequence(0, [1, 2], max_tokens=3), sequence(1, [3, 4], max_tokens=6)
    for one in (held, free):
        one.guide.ends = frozenset()
        driven.loop._apply(one)
    held.grammar = Letters()
    driven.run()
    keys = [[key for key, _ in step] for step in driven.runner.steps]
    assert keys == [[0, 1], [1], [0, 1], [1], [0, 1], [1]]


def test_an_abort_takes_effect_at_once_and_frees_the_blocks() -> None:
    """What is in flight for it is dropped when it is read."""
    driven = Driven()
    driven.loop._apply(sequence(0, prompt_with_reply(30, ends=False), max_tokens=30))
    for _ in range(4):
        driven.step()
    driven.loop._apply(Abort(0))
    driven.loop._flush()
    told = list(driven.events[0])
    assert told[-1] == Finished("abort", 2, 3)
    assert driven.pool.held == 0
    driven.run()
    assert driven.events[0] == told


@pytest.mark.parametrize(("broken", "left"), [("launch 3", "read 2"), ("read 2", "read 3")])
def test_a_step_that_fails_takes_the_running_along_and_nobody_else(broken: str, left: str) -> None:
    """One that lost its place, with a token in flight, draws that token again: the same.

    What is in flight is waited for, since it reads what its replies held.
    """
    driven = Driven(blocks=4)
    old = sequence(0, range(20, 50), max_tokens=30)
    young = sequence(1, range(60, 90), max_tokens=30)
    for one in (old, young):
        one.guide.ends = frozenset()  # so that it goes on to its full length
        driven.loop._apply(one)
    driven.runner.broken.add(broken)
    while not young.preemptions:
        driven.step()
    assert driven.runner.order[-2:] == [broken, left], "it has to fail in the very step"
    assert young.completion_tokens == 2, "its third token is lost"
    driven.run()
    assert isinstance(driven.events[0][-1], GenerationFailed)
    assert driven.events[1][-1] == Finished("length", 30, 30)
    assert young.tokens[30:] == reply_without_end(young.tokens[:30], 30)
    assert driven.pool.held == 0


def reply_without_end(prompt: list[int], length: int) -> list[int]:
    """What the scripted runner draws where no token ends a reply."""
    from tests.server.engine.scripted import drawn, states

    tokens = list(prompt)
    for _ in range(length):
        *_, last = states(None, tokens)
        tokens.append(drawn(last))
    return tokens[len(prompt) :]


def test_unread_tokens_are_found_by_nobody() -> None:
    """A block that is full but for a token in flight is published once that is read."""
    driven = Driven()
    one = sequence(0, range(1, 16), max_tokens=5)
    one.guide.ends = frozenset()
    driven.loop._apply(one)
    driven.step()
    driven.step()
    assert (one.computed, one.unread) == (16, 1)
    driven.loop._apply(Sequence(**_again(one)))
    driven.run()
    assert len(driven.events) == 2
    assert {event for events in driven.events.values() for event in events[-1:]} == {
        Finished("length", 15, 5),
    }


def _again(one: Sequence) -> dict[str, Any]:
    other = sequence(1, one.tokens[:15], max_tokens=5)
    other.guide.ends = frozenset()
    names = ("key", "tokens", "sampling", "seed", "max_tokens", "end_tokens", "reply")
    return {name: getattr(other, name) for name in names} | {"end_tokens": frozenset()}
