"""An engine that counts what passes through another, at the seam that all requests come by."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
from server.monitoring.gauges import Gauges
from server.monitoring.metrics import Metrics

FAILED = "failed"


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
