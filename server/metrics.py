"""What Prometheus reads at ``/metrics``: counted at the engine's seam, by model.

Names follow Prometheus' conventions (prometheus.io/docs/practices/naming): base units, counters in
``_total``. Labels hold names of models that are served, never what a client made up.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from adapters.base import Base
from adapters.conversation import Ending
from server.engine.errors import EngineClosed, EngineError, GenerationFailed
from server.engine.grammar import Grammar
from server.engine.machine import Memory, gpu_memory, machine_memory, own_bytes
from server.engine.types import (
    Delta,
    Device,
    Dialect,
    Engine,
    Event,
    Finished,
    Generation,
    GenerationRequest,
    Load,
    ModelCard,
    Piece,
    Shape,
)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
GAPS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
FAILED = "failed"


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        by_model = ["model"]
        self.requests = Counter(
            "lccc_requests",
            "Replies asked for, by how they ended: stop, length, abort, failed, or the refusal.",
            [*by_model, "outcome"],
            registry=self.registry,
        )
        self.prompt_tokens = Counter(
            "lccc_prompt_tokens",
            "Tokens of prompts, cached ones included.",
            by_model,
            registry=self.registry,
        )
        self.cached_tokens = Counter(
            "lccc_prompt_cached_tokens",
            "Tokens of prompts found in the cache.",
            by_model,
            registry=self.registry,
        )
        self.reply_tokens = Counter(
            "lccc_reply_tokens", "Tokens of replies.", by_model, registry=self.registry
        )
        self.first_token = Histogram(
            "lccc_time_to_first_token_seconds",
            "From a request to its first token, loading and queueing included.",
            by_model,
            buckets=SECONDS,
            registry=self.registry,
        )
        self.gaps = Gaps()
        self.registry.register(self.gaps)
        self.whole = Histogram(
            "lccc_request_duration_seconds",
            "From a request to the end of its reply.",
            by_model,
            buckets=SECONDS,
            registry=self.registry,
        )

    def served(self) -> dict[str, int]:
        """How many replies each model was asked for, whatever came of them."""
        counted: dict[str, int] = {}
        for family in self.requests.collect():
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    model = sample.labels["model"]
                    counted[model] = counted.get(model, 0) + int(sample.value)
        return counted

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)


class Gaps(Collector):
    """A histogram by model of what comes with every token: the library's takes ten times as long.

    It is for one thread.
    """

    def __init__(self) -> None:
        self._by_model: dict[str, ModelGaps] = {}

    def of(self, model: str) -> ModelGaps:
        """What ``model``'s gaps are counted in."""
        return self._by_model.setdefault(model, ModelGaps())

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "lccc_inter_token_latency_seconds",
            "From a token of a reply to the next.",
            labels=["model"],
        )
        bounds = [*map(floatToGoString, GAPS_S), "+Inf"]
        for model, gaps in self._by_model.items():
            up_to = accumulate(gaps.counts)
            family.add_metric([model], [*zip(bounds, up_to, strict=True)], gaps.total_s)
        yield family


class ModelGaps:
    """How many gaps end at each bound of :data:`GAPS_S`, those that are longer, and their sum."""

    def __init__(self) -> None:
        self.counts = [0] * (len(GAPS_S) + 1)
        self.total_s = 0.0

    def observe(self, gap_s: float) -> None:
        """Count one; a bound belongs to what is below it, as Prometheus has it."""
        self.counts[bisect_left(GAPS_S, gap_s)] += 1
        self.total_s += gap_s


class MeteredEngine:
    """An :class:`server.engine.types.Engine` that counts what passes through another."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        metrics.registry.register(_Gauges(engine))

    async def start(self) -> None:
        await self._engine.start()

    async def close(self) -> None:
        await self._engine.close()

    @property
    def is_ready(self) -> bool:
        return self._engine.is_ready

    @property
    def capacity(self) -> int:
        return self._engine.capacity

    @property
    def base(self) -> Base:
        return self._engine.base

    @property
    def device(self) -> Device:
        return self._engine.device

    async def refresh(self) -> None:
        await self._engine.refresh()

    def load(self) -> Load:
        return self._engine.load()

    def piece(self, token: int) -> Piece:
        return self._engine.piece(token)

    def models(self) -> Sequence[ModelCard]:
        return self._engine.models()

    def model(self, name: str) -> ModelCard:
        return self._engine.model(name)

    @property
    def dialect(self) -> Dialect:
        return self._engine.dialect

    async def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        thinks: bool = False,
        ending: Ending = "reply",
        must_fit: bool = True,
    ) -> tuple[int, ...]:
        return await self._engine.prompt(
            messages, tools=tools, thinks=thinks, ending=ending, must_fit=must_fit
        )

    async def encode(
        self, text: str, *, parse_special: bool = False, must_fit: bool = True
    ) -> tuple[int, ...]:
        return await self._engine.encode(text, parse_special=parse_special, must_fit=must_fit)

    def decode(self, tokens: Sequence[int]) -> str:
        return self._engine.decode(tokens)

    async def grammar(self, shape: Shape) -> Callable[[], Grammar]:
        return await self._engine.grammar(shape)

    async def submit(self, request: GenerationRequest) -> Generation:
        """As the engine's; a refusal counts under its name."""
        asked_s = time.perf_counter()
        try:
            generation = await self._engine.submit(request)
        except EngineError as error:
            self._metrics.requests.labels(request.model, _outcome(error)).inc()
            raise
        return _MeteredGeneration(generation, request, self._metrics, asked_s)


class _MeteredGeneration:
    """Counts the events of a generation as they are read."""

    def __init__(
        self,
        generation: Generation,
        request: GenerationRequest,
        metrics: Metrics,
        asked_s: float,
    ) -> None:
        self.id = generation.id
        self.digest = generation.digest
        self._generation = generation
        self._metrics = metrics
        self._model = request.model
        self._prompt_tokens = len(request.prompt)
        self._asked_s = asked_s
        self._is_counted = False
        self._events = aiter(generation)
        self._gaps = metrics.gaps.of(request.model)
        self._tokens = metrics.reply_tokens.labels(request.model)
        self._last_s: float | None = None
        self._fresh = 0  # tokens that are not counted yet

    @property
    def is_at_hand(self) -> bool:
        return self._generation.is_at_hand

    def abort(self) -> None:
        """As the engine's. Whoever aborts reads no more, so the end is counted here."""
        self._count("abort")
        self._generation.abort()

    def __aiter__(self) -> _MeteredGeneration:
        return self

    async def __anext__(self) -> Event:
        try:
            event = await anext(self._events)
        except GenerationFailed:
            self._count(FAILED)
            raise
        if isinstance(event, Delta):
            if event.tokens:
                self._measure(event.tokens)
        elif isinstance(event, Finished):
            self._finish(event)
        return event

    def _measure(self, tokens: int) -> None:
        now_s = time.perf_counter()
        if self._last_s is None:
            self._begin(now_s)
        else:
            self._gaps.observe(now_s - self._last_s)
        self._last_s = now_s
        self._fresh += tokens
        if not self.is_at_hand:  # once for all that are read together
            self._count_tokens()

    def _count_tokens(self) -> None:
        if self._fresh:
            self._tokens.inc(self._fresh)
            self._fresh = 0

    def _begin(self, now_s: float) -> None:
        self._metrics.first_token.labels(self._model).observe(now_s - self._asked_s)
        self._metrics.prompt_tokens.labels(self._model).inc(self._prompt_tokens)

    def _finish(self, event: Finished) -> None:
        if self._count(event.reason):
            if event.reason == "length" and not event.completion_tokens:  # none was asked for
                self._metrics.prompt_tokens.labels(self._model).inc(self._prompt_tokens)
            duration_s = time.perf_counter() - self._asked_s
            self._metrics.cached_tokens.labels(self._model).inc(event.cached_tokens)
            self._metrics.whole.labels(self._model).observe(duration_s)

    def _count(self, outcome: str) -> bool:
        """Count the end, if it is the first; tells whether it was."""
        if self._is_counted:
            return False
        self._is_counted = True
        self._count_tokens()
        self._metrics.requests.labels(self._model, outcome).inc()
        return True


class _Gauges(Collector):
    """What an engine does at the moment of asking; nothing while it does not serve."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        try:
            load, cards = self._engine.load(), self._engine.models()
        except EngineClosed:
            return
        yield _gauge("lccc_requests_running", "Replies that are being computed.", load.running)
        yield _gauge("lccc_requests_waiting", "Requests that wait for a place.", load.waiting)
        yield _gauge(
            "lccc_waiting_prompt_tokens",
            "Tokens of the prompts that have no reply yet.",
            load.waiting_tokens,
        )
        blocks = GaugeMetricFamily(
            "lccc_kv_cache_blocks", "Blocks of the KV cache, by use.", labels=["state"]
        )
        free = load.kv_blocks - load.kv_blocks_held - load.kv_blocks_cached
        states = {"held": load.kv_blocks_held, "cached": load.kv_blocks_cached, "free": free}
        for state, count in states.items():
            blocks.add_metric([state], count)
        yield blocks
        resident = GaugeMetricFamily(
            "lccc_adapter_resident", "1 where the adapter is in memory.", labels=["model"]
        )
        for card in cards:
            if card.parent is not None:
                resident.add_metric([card.name], card.digest in load.resident)
        yield resident
        yield from _machine(self._engine.device)


def _machine(device: Device) -> Iterator[Metric]:
    """What computes, and the memory of it."""
    names = ["device", "name", "weights"]
    about = GaugeMetricFamily("lccc_engine_info", "1, for what the labels say.", labels=names)
    about.add_metric([device.kind, device.name, device.weights], 1)
    yield about
    yield _gauge("process_resident_memory_bytes", "Memory of the server's process.", own_bytes())
    yield _memory("lccc_machine_memory_bytes", "Memory of the machine, by use.", machine_memory())
    if device.kind == "cuda":
        yield _memory("lccc_gpu_memory_bytes", "Memory of the GPU, by use.", gpu_memory())


def _memory(name: str, text: str, memory: Memory) -> Metric:
    found = GaugeMetricFamily(name, text, labels=["state"])
    found.add_metric(["used"], memory.used)
    found.add_metric(["free"], memory.total - memory.used)
    return found


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _outcome(error: EngineError) -> str:
    """``QueueFull`` is ``queue_full``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
