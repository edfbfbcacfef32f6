"""A new adapter is computed alone before it shares a step: what overflows is refused by name."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence as Rows
from typing import Any

import pytest

from adapters.base import Base
from server.engine.draw import Drawn
from server.engine.errors import AdapterUnavailable, EngineClosed, GenerationFailed
from server.engine.loop import EngineLoop
from server.engine.sequence import Chunk
from server.engine.trial import Trial, is_usable
from server.engine.types import Finished, SamplingParams, TokenLogprobs
from tests.server.engine.harness import GREEDY, Publish, Running, prompt_of, read, running, until
from tests.server.engine.test_scoring import needs_native
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.anyio

# Finite, all of them. Their products are not; or the squares of their products are not.
LOUD, FLAT = 1e30, 1e5


def watched(engine: Running) -> list[list[str | None]]:
    """For every step from now on, the digests of the adapters in it."""
    steps: list[list[str | None]] = []
    runner = engine.engine._parts.loop._runner
    launch = runner.launch

    def noted(chunks: Rows[Chunk]) -> Any:
        steps.append([chunk.sequence.digest for chunk in chunks])
        return launch(chunks)

    runner.launch = noted
    return steps


def held(engine: Running) -> tuple[int, int]:
    """Blocks in use, and those that can be found again."""
    pool = engine.engine._parts.pool
    return pool.held, pool.cached


async def assert_refused_alone(base: Base, publish: Publish, **settings: Any) -> None:
    """Adapters that overflow, one way or the other, are refused while others are replied to."""
    wild = {publish("loud", std=LOUD).digest, publish("flat", seed=1, std=FLAT).digest}
    publish("fine", seed=2)
    jobs = [("qwen3", prompt_of(9)), ("fine", prompt_of(30, seed=3)), ("qwen3", prompt_of(20))]
    long = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
    async with running(base, publish.root, **settings) as engine:
        expected = [await engine.tokens(*job, long) for job in jobs]
        steps = watched(engine)
        generations = [await engine.submit(*job, long) for job in jobs]
        others = engine.sequences[-3:]
        for name in ("loud", "flat"):
            with pytest.raises(AdapterUnavailable, match=f"'{name}' cannot.*not finite.*train it"):
                await engine.submit(name, prompt_of(5))
            card = engine.engine.model(name)
            assert card.state == "broken"
            assert "lower learning rate" in card.reason
        await asyncio.gather(*map(read, generations))
        assert [one.tokens[one.prompt_tokens :] for one in others] == expected
    with_wild = [digests for digests in steps if wild & set(digests)]
    assert sorted(with_wild) == sorted([digest] for digest in wild), "once, and nobody beside it"


@pytest.mark.parametrize(
    "settings",
    [
        {"kernels": "torch"},
        pytest.param({"kernels": "native"}, marks=needs_native),
        pytest.param({"kernels": "native", "weights": "nf4"}, marks=needs_native),
    ],
    ids=["torch", "native", "nf4"],
)
async def test_an_adapter_that_overflows_is_in_no_step_with_others(
    settings: dict[str, str], base: Base, publish: Publish
) -> None:
    """It is refused by name while others are replied to, whose replies are as without it."""
    await assert_refused_alone(base, publish, **settings)


async def test_a_trial_leaves_nothing_behind(base: Base, publish: Publish) -> None:
    """No block, nothing to be found again, no sequence, no place in the line."""
    publish("fine")
    async with running(base, publish.root) as engine:
        before = held(engine)
        steps = watched(engine)
        await engine.load("fine")
        assert len(steps) == 1, "or this test shows nothing"
        assert held(engine) == before
        assert not engine.sequences
        assert engine.engine._parts.admission.open == 0
        engine.engine.check_integrity()


async def test_a_trial_takes_no_block_from_those_that_have_them_all(
    base: Base, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole cache is one reply's; it is not put aside, and its tokens are its own."""
    publish("fine")
    whole = SamplingParams(temperature=0.0, max_tokens=28, ignore_eos=True)
    settings = {"max_context": 48, "kv_cache_tokens": 48, "prefix_cache": False}
    async with running(base, publish.root, **settings) as engine:
        expected = await engine.tokens("qwen3", prompt_of(20), whole)
        throttle = engine.throttle()
        generation = await engine.submit("qwen3", prompt_of(20), whole)
        one = engine.sequences[-1]
        while engine.engine._parts.pool.available:
            await throttle.planned()
            throttle.step()
        try_out, arrived = EngineLoop.try_out, threading.Event()

        def announced(loop: EngineLoop, trial: Trial) -> None:
            try_out(loop, trial)
            arrived.set()

        monkeypatch.setattr(EngineLoop, "try_out", announced)
        loading = asyncio.create_task(engine.load("fine"))
        assert await asyncio.to_thread(arrived.wait, PATIENCE_S)
        while not loading.done():  # a step or two, which must not be the reply's last
            await throttle.planned()
            throttle.step()
            await asyncio.wait([loading], timeout=0.2)
        assert one.key in engine.engine._parts.ledger._open, (
            "it is not over, or this test shows nothing"
        )
        throttle.open()
        await read(generation)
        assert (one.tokens[20:], one.preemptions) == (expected, 0)


async def test_each_version_of_a_name_is_tried(base: Base, publish: Publish) -> None:
    """A replacement that overflows is refused, and one that does not is served again."""
    publish("moving", seed=1)
    async with running(base, publish.root) as engine:
        steps = watched(engine)
        first = await engine.tokens("moving", prompt_of(9))
        assert steps[0] == [engine.sequences[-1].digest]
        for seed, std in ((2, LOUD), (3, 0.2)):
            entry = publish("moving", seed=seed, std=std)
            await engine.engine.refresh()
            tried = len(steps)
            if std == LOUD:
                with pytest.raises(AdapterUnavailable, match="not finite"):
                    await engine.submit("moving", prompt_of(9))
                assert steps[tried:] == [[entry.digest]]
                with pytest.raises(AdapterUnavailable, match="not finite"):
                    await engine.submit("moving", prompt_of(9))
                assert len(steps) == tried + 1, "known to be broken, it is not tried again"
        assert await engine.tokens("moving", prompt_of(9)) != first
        assert engine.engine.model("moving").state == "ready"
        assert engine.sequences[-1].cached_tokens == 0


async def test_a_request_can_be_cancelled_while_its_adapter_waits_for_its_trial(
    base: Base, publish: Publish
) -> None:
    """It leaves nothing, the reply that runs is its own, and the adapter is there for the next."""
    publish("fine")
    async with running(base, publish.root) as engine:
        expected = await engine.tokens("qwen3", prompt_of(9))
        throttle = engine.throttle()
        busy = await engine.submit("qwen3", prompt_of(9))
        await throttle.planned()
        waiting = asyncio.create_task(engine.submit("fine", (5,)))
        await until(lambda: not engine.engine._parts.loop._inbox.empty())
        assert engine.engine.model("fine").state == "loading"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert engine.engine._parts.admission.open == 1
        throttle.open()
        await read(busy)
        assert engine.sequences[-1].tokens[9:] == expected
        assert len(await engine.tokens("fine", (5,))) == GREEDY.max_tokens


async def test_closing_refuses_who_waits_for_a_trial(base: Base, publish: Publish) -> None:
    """Before it is tried or after the thread has ended: nobody waits for ever."""
    publish("fine")
    async with running(base, publish.root) as engine:
        throttle = engine.throttle()
        busy = await engine.submit("qwen3", (1, 2))
        await throttle.planned()
        waiting = asyncio.create_task(engine.submit("fine", (5,)))
        loop = engine.engine._parts.loop
        await until(lambda: not loop._inbox.empty())
        closing = await engine.closing()
        throttle.open()
        await closing
        with pytest.raises(EngineClosed):
            await waiting
        assert (await read(busy))[-1] == Finished("abort", 2, 1)
        late = Trial(None)
        loop.try_out(late)
        with pytest.raises(EngineClosed):
            late.is_usable.result(0)


async def test_a_trial_that_breaks_condemns_no_adapter(
    base: Base, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory may have run out for a moment: who waited is told, and the next request tries."""
    publish("fine")
    async with running(base, publish.root) as engine:
        runner = engine.engine._parts.loop._runner
        sound = runner.is_usable

        def broken(adapter: object) -> bool:
            runner.is_usable = sound
            raise MemoryError("injected")

        runner.is_usable = broken
        with pytest.raises(GenerationFailed, match="could not be tried"):
            await engine.submit("fine", (5,))
        assert engine.engine.model("fine").state == "ready"
        assert len(await engine.tokens("fine", (5,))) == GREEDY.max_tokens
    assert "injected" in caplog.text


def drawn(logprob: float) -> Drawn:
    return Drawn(5, TokenLogprobs(5, logprob))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (drawn(-1.0), True),
        (drawn(-math.log(1000) + 0.01), True),
        (drawn(-math.log(1000)), False),
        (drawn(math.nan), False),
        (Drawn(None, failure="not finite"), False),
    ],
)
def test_what_a_trial_has_to_lead_to(found: Drawn, expected: bool) -> None:
    """A token that is likelier than another, however little."""
    assert is_usable([found], 1000) is expected
