"""How tests run an engine: tokens in sight, steps in hand, books checked at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from collections.abc import Sequence as Rows
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.base import Base
from adapters.registry import Entry, Registry
from server.engine.config import EngineConfig
from server.engine.engine import LocalEngine
from server.engine.generation import LocalGeneration
from server.engine.loop import Reading
from server.engine.sequence import Chunk, Sequence
from server.engine.types import Delta, Event, Finished, GenerationRequest, SamplingParams, Scored
from tests.tiny import random_adapter

FAMILIES = ("qwen3", "qwen2", "llama")
GREEDY = SamplingParams(temperature=0.0, max_tokens=24)


def prompt_of(length: int, seed: int = 1) -> tuple[int, ...]:
    """A prompt of ordinary byte tokens."""
    return tuple((seed * 37 + 11 * index * index) % 250 for index in range(length))


@dataclass
class Running:
    """A started engine. ``sequences`` are all that were admitted, in order."""

    engine: LocalEngine
    sequences: list[Sequence] = field(default_factory=list)
    throttles: list[Throttle] = field(default_factory=list)

    async def submit(
        self, model: str, prompt: Rows[int], sampling: SamplingParams = GREEDY
    ) -> LocalGeneration:
        request = GenerationRequest(
            id=f"r{len(self.sequences)}", model=model, prompt=tuple(prompt), sampling=sampling
        )
        return await self.engine.submit(request)

    async def closing(self) -> asyncio.Task[None]:
        """Begin to close the engine, whose loop has been told so and does not look yet."""
        assert self.engine._parts is not None
        inbox = self.engine._parts.loop._inbox
        before = inbox.qsize()
        closing = asyncio.create_task(self.engine.close())
        await until(lambda: inbox.qsize() > before)
        return closing

    async def tokens(
        self, model: str, prompt: Rows[int], sampling: SamplingParams = GREEDY
    ) -> list[int]:
        """Generate to the end; the reply's token ids."""
        generation = await self.submit(model, prompt, sampling)
        sequence = self.sequences[-1]
        await read(generation)
        return sequence.tokens[len(prompt) :]

    async def load(self, *models: str) -> None:
        """Have adapters in memory already: their trials wait for steps, which a throttle holds."""
        parts = self.engine._parts
        for model in models:
            if entry := await parts.catalog.find(model):
                adapter = await self.engine._acquire(parts, entry)
                parts.bank.release(adapter.digest)

    def throttle(self) -> Throttle:
        self.throttles.append(Throttle(self.engine._parts.loop))
        return self.throttles[-1]


class Throttle:
    """Holds every step back until it is permitted, and notes what was planned for it."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._runner = loop._runner
        self._permits = threading.Semaphore(0)
        self._is_open = False
        self._planned = asyncio.Queue[list[Chunk]]()
        self._event_loop = asyncio.get_running_loop()
        loop._runner = self

    @property
    def is_ahead(self) -> bool:
        return self._runner.is_ahead

    def launch(self, chunks: Rows[Chunk]) -> Reading:
        self._event_loop.call_soon_threadsafe(self._planned.put_nowait, list(chunks))
        if not self._is_open:
            self._permits.acquire()
        return self._runner.launch(chunks)

    def is_usable(self, adapter: Any) -> bool:
        return self._runner.is_usable(adapter)

    async def planned(self) -> list[Chunk]:
        """The plan of the next step, which now waits for its permit."""
        return await self._planned.get()

    def step(self) -> None:
        """Permit one step."""
        self._permits.release()

    def open(self) -> None:
        """Hold nothing back any more."""
        self._is_open = True
        self._loop._runner = self._runner
        self._permits.release()


async def read(generation: LocalGeneration) -> list[Event]:
    """All events to the end, which must be one ``Finished``, counting what was delivered."""
    events = [event async for event in generation]
    *deltas, last = events
    assert isinstance(last, Finished)
    deltas = deltas[1:] if deltas and isinstance(deltas[0], Scored) else deltas
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert sum(delta.tokens for delta in deltas) == last.completion_tokens
    return events


def text_of(events: Rows[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


@asynccontextmanager
async def running(base: Base, registry: Path, **settings: Any) -> AsyncIterator[Running]:
    """Start an engine; at the end nothing may be held that nobody needs, before and after close."""
    settings = {"weights": "fp32", "device": "cpu", "poll_interval_s": 0.02, **settings}
    engine = LocalEngine(EngineConfig(base=base, registry_root=registry, **settings))
    await engine.start()
    started = Running(engine)
    try:
        submit = engine._parts.loop.submit

        def noted(sequence: Sequence) -> None:
            started.sequences.append(sequence)
            submit(sequence)

        engine._parts.loop.submit = noted
        yield started
        if not engine._parts.ledger:
            engine.check_integrity()
    finally:
        for throttle in started.throttles:  # else a test that fails while holding one hangs
            throttle.open()
        await engine.close()
    assert not engine._parts.ledger
    engine.check_integrity()


async def until(condition: Any) -> None:
    """Wait for something that happens on its own; the test's timeout bounds it."""
    while not condition():  # noqa: ASYNC110 - what is awaited has no event to wait for
        await asyncio.sleep(0.005)


@dataclass
class Publish:
    """Registers random adapters under given names."""

    base: Base
    root: Path
    sources: Path

    def __call__(self, name: str, seed: int = 0, **settings: Any) -> Entry:
        source = self.sources / f"{name}-{seed}"
        random_adapter(source, self.base.path, seed=seed, **settings)
        return Registry(self.root).register(source, name, self.base, assume_base=True)

    def remove(self, name: str) -> None:
        Registry(self.root).remove(name)
