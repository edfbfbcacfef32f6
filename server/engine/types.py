"""The values that cross the engine's seam, and the seam itself.

A caller awaits :meth:`Engine.submit`; everything that can be refused is refused there, before a
stream exists. The returned :class:`Generation` is then iterated for events, and ends with exactly
one :class:`Finished` or with :class:`server.engine.errors.GenerationFailed` raised.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from adapters.manifest import SamplingDefaults

FinishReason = Literal["stop", "length", "abort"]
ModelState = Literal["ready", "loading", "broken"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How to choose the next token. Defaults are the neutral ones of the field.

    ``temperature`` 0 is greedy. ``top_k`` 0 and ``top_p`` 1 switch those filters off.
    ``max_tokens`` counts generated tokens; ``None`` fills the context.
    ``seed`` makes a reply reproducible whatever else runs in the batch; ``None`` draws one.
    ``stop`` strings end the reply and are not part of it.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationRequest:
    """One generation: which model, on which prompt tokens, sampled how."""

    id: str
    model: str
    prompt: tuple[int, ...]
    sampling: SamplingParams = SamplingParams()


@dataclass(frozen=True, slots=True)
class Delta:
    """New text, complete characters only, never part of a stop string. May be ``""``."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation. Counts are in tokens; an end marker counts as generated."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


Event = Delta | Finished


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """One served model: the base (``parent`` is ``None``) or an adapter.

    ``created`` is Unix seconds of registration (for the base: of its files).
    ``digest`` is the adapter's content hash; for the base, its weights'.
    """

    name: str
    parent: str | None
    digest: str
    created: int
    context_length: int
    state: ModelState = "ready"
    reason: str | None = None
    rank: int | None = None
    system_prompt: str | None = None
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)


class Generation(Protocol):
    """A running generation. Iterate it once; ``abort`` frees its row within one step.

    ``digest`` is the version of the model that it started with and keeps.
    """

    id: str
    digest: str

    def __aiter__(self) -> AsyncIterator[Event]: ...

    def abort(self) -> None: ...


class Engine(Protocol):
    """What the HTTP side sees of the engine. All methods are called on the event loop."""

    async def start(self) -> None:
        """Load the base and begin stepping; returns once requests can be served."""

    async def close(self) -> None:
        """Stop: running generations end with ``Finished("abort")``. Safe to call twice."""

    @property
    def is_ready(self) -> bool:
        """True while requests can be served (started, its thread alive, not closing)."""

    def models(self) -> Sequence[ModelCard]:
        """The base first, then the registered adapters by name."""

    def model(self, name: str) -> ModelCard:
        """One card.

        Raises:
            UnknownModel: neither the base nor a registered adapter.
        """

    async def prompt(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """The token ids of a conversation, ready for the assistant's reply."""

    async def submit(self, request: GenerationRequest) -> Generation:
        """Admit a request.

        Raises:
            UnknownModel, AdapterUnavailable, PromptTooLong, QueueFull, EngineClosed
        """
