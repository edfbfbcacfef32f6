"""What Prometheus reads at ``/metrics``: counted at the engine's seam, by model.

Names follow Prometheus' conventions (prometheus.io/docs/practices/naming): base units, counters in
``_total``. Labels hold names of models that are served, never what a client made up; of how many,
and for how long, is in :mod:`server.metric_models`.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from adapters.base import Base
from adapters.conversation import Ending
from server.engine.errors import EngineError, GenerationFailed
from server.engine.grammar import Grammar
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
from server.gauges import Gauges
from server.metric_models import MetricModels

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
GAPS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
FAILED = "failed"


class Metrics:
    """The counters of one server, and in ``now`` what there is at the moment of asking."""

    def __init__(self) -> None:
        disable_created_metrics()  # a further line for every counter, which nobody asked for
        self.registry = CollectorRegistry()
        self.now = CollectorRegistry()
        self.models = MetricModels(self._forget)
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
        """The counters in Prometheus' text format; in any thread, for that may take a while."""
        return generate_latest(self.registry)

    def text_now(self) -> bytes:
        """What there is now, in the same format. On the event loop."""
        return generate_latest(self.now)

    def _forget(self, model: str) -> None:
        for counter in (self.prompt_tokens, self.cached_tokens, self.reply_tokens):
            counter.remove(model)
        for family in self.requests.collect():
            for sample in family.samples:
                if sample.labels["model"] == model:
                    self.requests.remove(model, sample.labels["outcome"])
        self.first_token.remove(model)
        self.whole.remove(model)
        self.gaps.forget(model)


class Gaps(Collector):
    """A histogram by model of what comes with every token: the library's takes ten times as long.

    One thread observes.
    """

    def __init__(self) -> None:
        self._by_model: dict[str, ModelGaps] = {}

    def of(self, model: str) -> ModelGaps:
        """What ``model``'s gaps are counted in."""
        return self._by_model.setdefault(model, ModelGaps())

    def forget(self, model: str) -> None:
        """Count no gaps of ``model`` any more."""
        self._by_model.pop(model, None)

    def collect(self) -> Iterator[Metric]:
        """In any thread, while gaps are observed."""
        family = HistogramMetricFamily(
            "lccc_inter_token_latency_seconds",
            "From a token of a reply to the next.",
            labels=["model"],
        )
        bounds = [*map(floatToGoString, GAPS_S), "+Inf"]
        for model, gaps in list(self._by_model.items()):
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
        metrics.now.register(Gauges(engine))

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

    def names(self) -> set[str]:
        """Those of all models that are served."""
        return {card.name for card in self._engine.models()}

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
        self._metrics.models.meet(request.model, self.names)
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
        self._label = metrics.models.label(request.model)  # of its histograms
        self._prompt_tokens = len(request.prompt)
        self._asked_s = asked_s
        self._is_counted = False
        self._events = aiter(generation)
        self._gaps = metrics.gaps.of(self._label)
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
        self._metrics.first_token.labels(self._label).observe(now_s - self._asked_s)
        self._metrics.prompt_tokens.labels(self._model).inc(self._prompt_tokens)

    def _finish(self, event: Finished) -> None:
        if self._count(event.reason):
            if event.reason == "length" and not event.completion_tokens:  # none was asked for
                self._metrics.prompt_tokens.labels(self._model).inc(self._prompt_tokens)
            duration_s = time.perf_counter() - self._asked_s
            self._metrics.cached_tokens.labels(self._model).inc(event.cached_tokens)
            self._metrics.whole.labels(self._label).observe(duration_s)

    def _count(self, outcome: str) -> bool:
        """Count the end, if it is the first; tells whether it was."""
        if self._is_counted:
            return False
        self._is_counted = True
        self._count_tokens()
        self._metrics.requests.labels(self._model, outcome).inc()
        return True


def _outcome(error: EngineError) -> str:
    """``QueueFull`` is ``queue_full``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
