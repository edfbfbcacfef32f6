"""The engine as its callers see it: what it refuses, how it ends, and that it lets go."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import logging
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from adapters.base import Base, read_base
from server.engine.config import EngineConfig
from server.engine.engine import LocalEngine
from server.engine.errors import (
    AdapterUnavailable,
    AdapterUnreadable,
    EngineClosed,
    GenerationFailed,
    PromptInvalid,
    PromptTooLong,
    QueueFull,
    UnknownModel,
)
from server.engine.generation import LocalGeneration
from server.engine.types import Delta, Engine, Finished, GenerationRequest, SamplingParams
from tests.server.engine.harness import (
    GREEDY,
    Publish,
    Running,
    prompt_of,
    read,
    running,
    text_of,
    until,
)

pytestmark = pytest.mark.anyio


# Ends


async def test_a_reply_ends_at_its_length_and_says_so(base: Base, tmp_path: Path) -> None:
    """max_tokens bounds the reply; the counts are those of prompt and reply."""
    async with running(base, tmp_path) as engine:
        sampling = SamplingParams(temperature=0.0, max_tokens=7)
        events = await read(await engine.submit(base.name, prompt_of(9), sampling))
    assert events[-1] == Finished("length", 9, 7)


async def test_without_max_tokens_a_reply_may_fill_the_context(base: Base, tmp_path: Path) -> None:
    """The context is used to its last token and no further."""
    sampling = SamplingParams(temperature=0.0, repetition_penalty=1.3)
    async with running(base, tmp_path, max_context=50) as engine:
        tokens = await engine.tokens(base.name, prompt_of(10), sampling)
        assert 258 not in tokens, "this reply must not end by itself for the test to show anything"
    assert len(tokens) == 40


async def test_an_end_token_stops_the_reply_and_is_no_text(base: Base, tmp_path: Path) -> None:
    """The base's generation_config.json may name several ends; they count as generated."""
    async with running(base, tmp_path) as engine:
        free = await engine.tokens(base.name, prompt_of(9))
    cut = next(at for at in range(3, 20) if free[at] not in free[:at])
    path = tmp_path / "ending"
    shutil.copytree(base.path, path)
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [258, free[cut]]}))
    async with running(read_base(path, "ending"), tmp_path) as engine:
        events = await read(await engine.submit("ending", prompt_of(9)))
        assert events[-1] == Finished("stop", 9, cut + 1)
        assert text_of(events) == engine.engine._parts.tokenizer.text(free[:cut])


async def test_a_stop_string_ends_the_reply_and_is_never_shown(base: Base, tmp_path: Path) -> None:
    """The reply is cut where the string begins, though its bytes come in several tokens."""
    async with running(base, tmp_path) as engine:
        sampling = SamplingParams(temperature=2.0, max_tokens=60, seed=3)
        whole = text_of(await read(await engine.submit(base.name, (1,), sampling)))
        stop = whole[20:24]
        stopping = SamplingParams(temperature=2.0, max_tokens=60, seed=3, stop=("never", stop))
        events = await read(await engine.submit(base.name, (1,), stopping))
    assert text_of(events) == whole[: whole.index(stop)]
    assert events[-1].reason == "stop"
    assert events[-1].completion_tokens < 60


# Refusals


async def test_unknown_model_is_refused(base: Base, tmp_path: Path) -> None:
    """Neither the base nor an adapter: never another model's reply."""
    async with running(base, tmp_path) as engine:
        with pytest.raises(UnknownModel):
            await engine.submit("nobody", (1,))
        with pytest.raises(UnknownModel):
            engine.engine.model("nobody")


@pytest.mark.parametrize("prompt", [(), (-1,), (5, 259)])
async def test_a_prompt_that_is_none_is_refused(
    prompt: tuple[int, ...], base: Base, tmp_path: Path
) -> None:
    """Empty, or with tokens that the base does not have."""
    async with running(base, tmp_path) as engine:
        with pytest.raises(PromptInvalid):
            await engine.submit(base.name, prompt)


@pytest.mark.parametrize(
    ("length", "max_tokens", "fits"),
    [(20, 12, True), (20, 13, False), (31, None, True), (32, None, False), (33, 1, False)],
)
async def test_prompt_and_reply_must_fit_the_context(
    length: int, max_tokens: int | None, fits: bool, base: Base, tmp_path: Path
) -> None:
    """The bound is exact, and the refusal carries the counts."""
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    async with running(base, tmp_path, max_context=32) as engine:
        if fits:
            await read(await engine.submit(base.name, prompt_of(length), sampling))
            return
        with pytest.raises(PromptTooLong) as refused:
            await engine.submit(base.name, prompt_of(length), sampling)
    assert (refused.value.prompt_tokens, refused.value.context_length) == (length, 32)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 1.5},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
        {"max_tokens": -1},
    ],
)
async def test_sampling_out_of_range_is_refused_by_name(
    values: dict[str, float], base: Base, tmp_path: Path
) -> None:
    """A value that would break a step for everyone does not get as far."""
    async with running(base, tmp_path) as engine:
        with pytest.raises(ValueError, match=next(iter(values))):
            await engine.submit(base.name, (1,), SamplingParams(**values))


async def test_a_full_line_refuses_and_recovers(base: Base, tmp_path: Path) -> None:
    """One may run, one may wait, the third is refused with a time; later there is room again."""
    async with running(base, tmp_path, max_running=1, max_waiting=1) as engine:
        throttle = engine.throttle()
        first = await engine.submit(base.name, (1,))
        second = await engine.submit(base.name, (2,))
        with pytest.raises(QueueFull) as refused:
            await engine.submit(base.name, (3,))
        assert refused.value.waiting == 1
        assert refused.value.retry_after_s >= 1
        throttle.open()
        await asyncio.gather(read(first), read(second))
        await read(await engine.submit(base.name, (3,)))


# Aborts


async def test_abort_while_waiting(base: Base, tmp_path: Path) -> None:
    """A waiting generation leaves the line; the running one is not disturbed."""
    async with running(base, tmp_path, max_running=1) as engine:
        throttle = engine.throttle()
        talking = await engine.submit(base.name, (1, 2))
        await throttle.planned()
        waiting = await engine.submit(base.name, (3, 4, 5))
        waiting.abort()
        throttle.step()
        await throttle.planned()
        throttle.step()
        assert await read(waiting) == [Finished("abort", 3, 0)]
        throttle.open()
        assert (await read(talking))[-1].reason == "length"


async def test_abort_in_the_prompt(base: Base, tmp_path: Path) -> None:
    """A long prompt is not computed to its end for nobody."""
    async with running(base, tmp_path, prefill_chunk_tokens=4) as engine:
        throttle = engine.throttle()
        generation = await engine.submit(base.name, prompt_of(100))
        await throttle.planned()
        throttle.step()
        await throttle.planned()
        generation.abort()
        throttle.step()
        assert await read(generation) == [Finished("abort", 100, 0)]
        assert engine.sequences[0].computed == 8, "the step under way was its last"
        throttle.open()


async def test_abort_in_the_reply(base: Base, tmp_path: Path) -> None:
    """The row is free after the step under way; a second abort and one after the end do nothing."""
    async with running(base, tmp_path, max_running=1) as engine:
        throttle = engine.throttle()
        generation = await engine.submit(base.name, (1, 2))
        for _ in range(3):
            await throttle.planned()
            throttle.step()
        await throttle.planned()
        generation.abort()
        generation.abort()
        throttle.step()
        events = await read(generation)
        assert events[-1] == Finished("abort", 2, 4)
        generation.abort()
        throttle.open()
        assert len(await engine.tokens(base.name, (1, 2))) == GREEDY.max_tokens


async def test_dropping_a_generation_frees_its_row(base: Base, tmp_path: Path) -> None:
    """Nobody can read it any more, so it does not keep the only row."""
    async with running(base, tmp_path, max_running=1) as engine:
        endless = SamplingParams(temperature=0.0, repetition_penalty=1.3, max_tokens=500)
        generation = await engine.submit(base.name, (1,), endless)
        async for event in generation:
            assert isinstance(event, Delta)
            break
        del generation, event
        gc.collect()
        assert len(await engine.tokens(base.name, (2,))) == GREEDY.max_tokens
        assert engine.sequences[0].completion_tokens < 500


async def test_a_reader_that_is_cancelled_can_abort(base: Base, tmp_path: Path) -> None:
    """The way a disconnecting client ends: its task is cancelled inside the iteration."""
    async with running(base, tmp_path) as engine:
        throttle = engine.throttle()
        generation = await engine.submit(base.name, (1,))

        async def serve() -> None:
            try:
                await read(generation)
            finally:
                generation.abort()

        task = asyncio.create_task(serve())
        await throttle.planned()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        throttle.open()
        await until(lambda: not engine.engine._parts.ledger)


# Failures


async def test_a_failing_step_ends_the_running_and_nothing_else(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those in the step fail, the waiting one gets its turn, the engine goes on."""
    async with running(base, tmp_path, max_running=1) as engine:
        expected = await engine.tokens(base.name, (7, 8))
        throttle = engine.throttle()
        failing = await engine.submit(base.name, (1, 2))
        waiting = await engine.submit(base.name, (7, 8))
        await throttle.planned()
        runner, broken = throttle._runner, _Broken(times=1)
        throttle._runner = broken
        broken.inner = runner
        throttle.open()
        engine.engine._parts.loop._runner = broken
        with pytest.raises(GenerationFailed):
            await read(failing)
        await read(waiting)
        assert engine.sequences[-1].tokens[2:] == expected
        assert engine.engine.is_ready
    assert "injected" in caplog.text


async def test_an_error_in_one_reply_fails_that_reply_alone(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its neighbour in the same batch does not notice."""
    async with running(base, tmp_path) as engine:
        expected = await engine.tokens(base.name, (7, 8))
        throttle = engine.throttle()
        failing = await engine.submit(base.name, (1, 2))
        other = await engine.submit(base.name, (7, 8))
        engine.sequences[1].reply.feed = _raise
        throttle.open()
        with pytest.raises(GenerationFailed):
            await read(failing)
        await read(other)
        assert engine.sequences[2].tokens[2:] == expected
    assert "injected" in caplog.text


async def test_values_that_are_no_numbers_fail_that_reply_alone(
    base: Base, publish: Publish
) -> None:
    """One that overflows gives an error, not the token 0, and spoils nobody else's reply.

    As an adapter could that passed its trial with other tokens.
    """
    publish("loud", std=1e30)
    async with running(base, publish.root) as engine:
        engine.engine._parts.loop._runner.is_usable = lambda adapter: True
        expected = await engine.tokens(base.name, (7, 8))
        loud = await engine.submit("loud", (7, 8))
        other = asyncio.create_task(engine.tokens(base.name, (7, 8)))
        with pytest.raises(GenerationFailed, match="not finite"):
            await read(loud)
        assert await other == expected


async def test_when_the_thread_dies_everyone_is_told(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No reader waits for ever, and the engine no longer says that it is ready.

    Not even one whose request the thread had not taken in yet.
    """
    async with running(base, tmp_path) as engine:
        throttle = engine.throttle()
        generation = await engine.submit(base.name, (1,))
        await throttle.planned()
        untaken = await engine.submit(base.name, (2,))
        engine.engine._parts.loop._scheduler.advance = _exit
        throttle.open()
        for one in (generation, untaken):
            with pytest.raises(GenerationFailed):
                await read(one)
        await until(lambda: not engine.engine.is_ready)
        with pytest.raises(EngineClosed):
            await engine.submit(base.name, (1,))
        # What the dead thread left is not what this test is about.
        engine.engine._parts.loop._scheduler.remove(engine.sequences[0])


async def test_types_are_known_before_threads_meet_them(base: Base, tmp_path: Path) -> None:
    """As several adapters that are read at once do; see `adapters.structs`."""

    class New(msgspec.Struct):
        a: int

    async with running(base, tmp_path):
        New.__annotations__["a"] = "Nowhere"
        assert msgspec.convert({"a": 1}, New) == New(1)


# Closing


async def test_close_aborts_what_runs_and_what_waits(base: Base, tmp_path: Path) -> None:
    """Every reader gets its end; afterwards nothing is admitted, and closing again is fine."""
    config = EngineConfig(base=base, registry_root=tmp_path, device="cpu", max_running=1)
    engine = LocalEngine(config)
    await engine.start()
    assert engine.is_ready
    harness = Running(engine)
    throttle = harness.throttle()
    runs = await harness.submit(base.name, (1, 2))
    waits = await harness.submit(base.name, (3,))
    await throttle.planned()
    closing = await harness.closing()
    throttle.open()
    await closing
    assert (await read(runs))[-1].reason == "abort"
    assert await read(waits) == [Finished("abort", 1, 0)]
    assert not engine.is_ready
    with pytest.raises(EngineClosed):
        await harness.submit(base.name, (1,))
    await engine.close()


async def test_an_engine_that_was_not_started_serves_nothing(base: Base, tmp_path: Path) -> None:
    """Neither prompts nor generations, and it can be closed."""
    engine: Engine = LocalEngine(EngineConfig(base=base, registry_root=tmp_path))
    assert not engine.is_ready
    with pytest.raises(EngineClosed):
        await engine.submit(GenerationRequest(id="a", model=base.name, prompt=(1,)))
    await engine.close()


def test_a_closed_event_loop_does_not_hold_the_thread(base: Base, tmp_path: Path) -> None:
    """A caller that goes away without closing leaves a thread that ends its work in silence."""
    engine = LocalEngine(EngineConfig(base=base, registry_root=tmp_path, device="cpu"))

    async def leave() -> object:
        await engine.start()
        return await Running(engine).submit(base.name, (1, 2))

    generation = asyncio.run(leave())
    del generation
    engine._parts.loop.stop()
    engine._parts.loop.join()


# Prompts and models


async def test_a_conversation_becomes_the_training_prompt(base: Base, tmp_path: Path) -> None:
    """The prompt is what the shared rendering gives, control tokens in the text made harmless."""
    async with running(base, tmp_path) as engine:
        plain = await engine.engine.prompt([{"role": "user", "content": "你好"}])
        sly = await engine.engine.prompt([{"role": "user", "content": "<|im_end|>"}])
        tokenizer = engine.engine._parts.tokenizer._tokenizer
    assert "你好" in tokenizer.decode(plain)
    assert sly.count(258) == plain.count(258)


async def test_a_template_that_refuses_is_the_callers_mistake(base: Base, tmp_path: Path) -> None:
    """Some templates raise on roles they do not know: that is no failure of the server."""
    async with running(base, tmp_path) as engine:
        tokenizer = engine.engine._parts.tokenizer._tokenizer
        tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
        with pytest.raises(PromptInvalid, match="roles must alternate"):
            await engine.engine.prompt([{"role": "user", "content": "hi"}])


async def test_what_cannot_fit_is_refused_before_tokens_are_made_of_it(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer may take seconds over it, while all others wait. It can be counted still."""
    async with running(base, tmp_path, max_context=64) as engine:
        tokenizer = engine.engine._parts.tokenizer
        made: list[str] = []
        library = tokenizer._tokenizer.__class__
        encode = library.__call__

        def noted(self: object, text: str, **settings: object) -> object:
            made.append(text)
            return encode(self, text, **settings)

        monkeypatch.setattr(library, "__call__", noted)
        longest = len("<|endoftext|>") + 6  # the longest token; others are bytes
        with pytest.raises(PromptTooLong, match="at least 65") as refused:
            await engine.engine.encode("好" * (64 * longest // 3 + 1))
        assert refused.value.context_length == 64
        with pytest.raises(PromptTooLong, match="at least"):
            await engine.engine.prompt([{"role": "user", "content": "<|im_end|>" * 999}])
        assert made == []
        assert len(await engine.engine.encode("a" * 2000, must_fit=False)) == 2000
        assert len(await engine.engine.encode("a" * 64 * longest)) == 64 * longest


async def test_an_adapter_registered_this_moment_answers(base: Base, publish: Publish) -> None:
    """A submit looks again before it says no, without waiting for the next poll."""
    async with running(base, publish.root, poll_interval_s=3600) as engine:
        with pytest.raises(UnknownModel):
            await engine.submit("fresh", (1,))
        entry = publish("fresh")
        generation = await engine.submit("fresh", (1,))
        assert generation.digest == entry.digest
        await read(generation)


async def test_a_running_reply_keeps_its_version_when_the_name_moves_on(
    base: Base, publish: Publish
) -> None:
    """Replaced or removed: the stream goes on unchanged, and new requests see the new state."""
    first = publish("moving", seed=1)
    async with running(base, publish.root) as engine:
        expected = await engine.tokens("moving", prompt_of(9))
        throttle = engine.throttle()
        old = await engine.submit("moving", prompt_of(9))
        old_sequence = engine.sequences[-1]
        await throttle.planned()

        second = publish("moving", seed=2)
        assert second.digest != first.digest
        await until(lambda: engine.engine.model("moving").digest == second.digest)
        submitting = asyncio.create_task(engine.submit("moving", prompt_of(9)))
        await until(lambda: not engine.engine._parts.loop._inbox.empty())
        throttle.step()  # the new version has its trial behind this one
        new = await submitting
        new_sequence = engine.sequences[-1]
        assert (old.digest, new.digest) == (first.digest, second.digest)

        publish.remove("moving")
        await until(lambda: len(engine.engine.models()) == 1)
        with pytest.raises(UnknownModel):
            await engine.submit("moving", prompt_of(9))

        throttle.open()
        await asyncio.gather(read(old), read(new))
        assert old_sequence.tokens[9:] == expected
        assert new_sequence.tokens[9:] != expected


async def test_an_adapter_damaged_on_disk_is_unavailable_and_shown_broken(
    base: Base, publish: Publish
) -> None:
    """Changed bytes are never served; the card says why, and another adapter is not touched."""
    entry = publish("damaged", seed=1)
    publish("whole", seed=2)
    weights = entry.path / "adapter_model.safetensors"
    weights.chmod(0o644)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    async with running(base, publish.root) as engine:
        with pytest.raises(AdapterUnavailable, match="damaged"):
            await engine.submit("damaged", (1,))
        card = engine.engine.model("damaged")
        assert (card.state, bool(card.reason)) == ("broken", True)
        assert len(await engine.tokens("whole", (1,))) == GREEDY.max_tokens


async def test_an_adapter_that_cannot_be_read_for_a_moment_is_not_broken(
    base: Base, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few file descriptors say nothing of an adapter: the next request tries again."""
    publish("whole")
    async with running(base, publish.root) as engine:
        with monkeypatch.context() as lacking:
            lacking.setattr("adapters.entry.read_bytes", _too_many_files)
            with pytest.raises(AdapterUnreadable, match=r"cannot be read now: .*Too many open"):
                await engine.submit("whole", (1,))
        assert engine.engine.model("whole").state == "ready"
        assert len(await engine.tokens("whole", (1,))) == GREEDY.max_tokens


async def test_more_adapters_than_fit_wait_for_one_that_is_not_in_use(
    base: Base, publish: Publish
) -> None:
    """An adapter in use is never evicted; who needs its place gets it afterwards."""
    for seed, name in enumerate(["a", "b", "c"]):
        publish(name, seed=seed)
    async with running(base, publish.root, max_resident_adapters=2) as engine:
        expected = await engine.tokens("c", (5,))
        await engine.load("a", "b")
        throttle = engine.throttle()
        busy = [await engine.submit("a", (5,)), await engine.submit("b", (5,))]
        waiting = asyncio.create_task(engine.submit("c", (5,)))
        await throttle.planned()
        assert not waiting.done()
        throttle.open()
        await asyncio.gather(*map(read, busy))
        await read(await waiting)
        assert engine.sequences[-1].tokens[1:] == expected


async def test_a_request_that_waits_for_its_adapter_can_be_cancelled(
    base: Base, publish: Publish
) -> None:
    """A client that hangs up before its adapter is there leaves nothing behind."""
    for seed, name in enumerate(["a", "b"]):
        publish(name, seed=seed)
    async with running(base, publish.root, max_resident_adapters=1) as engine:
        throttle = engine.throttle()
        busy = await engine.submit("a", (5,))
        waiting = asyncio.create_task(engine.submit("b", (5,)))
        await throttle.planned()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert engine.engine._parts.admission.open == 1
        assert engine.engine._parts.admission.waiting_tokens == 1
        throttle.open()
        await read(busy)
        assert len(await engine.tokens("b", (5,))) == GREEDY.max_tokens


async def test_closing_while_an_adapter_is_awaited_refuses_that_request(
    base: Base, publish: Publish
) -> None:
    """It never becomes a generation that nobody runs."""
    for seed, name in enumerate(["a", "b"]):
        publish(name, seed=seed)
    async with running(base, publish.root, max_resident_adapters=1) as engine:
        throttle = engine.throttle()
        busy = await engine.submit("a", (5,))
        waiting = asyncio.create_task(engine.submit("b", (5,)))
        await throttle.planned()
        closing = await engine.closing()
        throttle.open()
        await closing
        with pytest.raises(EngineClosed):
            await waiting
        assert (await read(busy))[-1].reason == "abort"


async def test_an_adapter_beyond_the_budget_is_unavailable(base: Base, publish: Publish) -> None:
    """The reason names the setting; smaller adapters and the base are not touched."""
    publish("large", rank=64)
    publish("small", rank=1)
    async with running(base, publish.root, adapter_cache_bytes=100_000) as engine:
        with pytest.raises(AdapterUnavailable, match="adapter_cache_bytes"):
            await engine.submit("large", (1,))
        assert engine.engine.model("large").state == "ready", "it is not broken"
        for model in ("small", base.name):
            assert len(await engine.tokens(model, (1,))) == GREEDY.max_tokens


# Fairness


async def test_a_flood_of_one_adapter_does_not_hold_up_another(
    base: Base, publish: Publish
) -> None:
    """With one place, a late request for the base is served after at most one of the flood."""
    publish("flood")
    async with running(base, publish.root, max_running=1) as engine:
        throttle = engine.throttle()
        short = SamplingParams(temperature=0.0, max_tokens=2)
        flood = [await engine.submit("flood", (5, number), short) for number in range(8)]
        late = await engine.submit(base.name, (5,), short)
        throttle.open()
        order: list[str] = []

        async def note(generation: LocalGeneration) -> None:
            await read(generation)
            order.append(generation.id)

        await asyncio.gather(*map(note, [*flood, late]))
        assert order.index(late.id) <= 2, "one ran already, and one may have its turn"


async def test_priority_goes_before_age(base: Base, tmp_path: Path) -> None:
    """The more important request gets the next place; beyond the range it is refused by name."""
    async with running(base, tmp_path, max_running=1) as engine:
        throttle = engine.throttle()
        first = [await engine.submit(base.name, (1, number)) for number in range(2)]
        await throttle.planned()
        request = GenerationRequest(
            id="urgent", model=base.name, prompt=(3,), sampling=GREEDY, priority=1
        )
        urgent = await engine.engine.submit(request)
        throttle.open()
        order: list[str] = []

        async def note(generation: LocalGeneration) -> None:
            await read(generation)
            order.append(generation.id)

        await asyncio.gather(*map(note, [*first, urgent]))
        assert order == ["r0", "urgent", "r1"]
        with pytest.raises(ValueError, match="priority=99"):
            await engine.engine.submit(
                GenerationRequest(id="x", model=base.name, prompt=(3,), priority=99)
            )


async def test_prompts_that_wait_are_bounded_by_their_tokens(base: Base, tmp_path: Path) -> None:
    """A third long prompt is refused while two are not computed; later there is room again."""
    async with running(base, tmp_path, max_waiting_tokens=100) as engine:
        throttle = engine.throttle()
        busy = [await engine.submit(base.name, prompt_of(50, seed=seed)) for seed in range(2)]
        with pytest.raises(QueueFull, match="100 tokens"):
            await engine.submit(base.name, prompt_of(50, seed=2))
        throttle.open()
        await asyncio.gather(*map(read, busy))
        assert len(await engine.tokens(base.name, prompt_of(50, seed=2))) == GREEDY.max_tokens


class _Broken:
    """A runner whose first steps raise."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.inner = None

    is_ahead = False

    def launch(self, chunks):
        if self.left:
            self.left -= 1
            raise RuntimeError("injected")
        return self.inner.launch(chunks)


def _too_many_files(*_: object, **__: object) -> bytes:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _raise(token: int) -> str:
    raise RuntimeError("injected")


def _exit(chunks: object) -> None:
    logging.getLogger(__name__).info("the thread is about to end")
    raise SystemExit
