"""Stand-ins at a seam: a scripted engine for tests of the HTTP side, which needs no model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.base import Architecture, Base
from adapters.manifest import BaseRef
from server.engine.errors import EngineClosed, GenerationFailed, UnknownModel
from server.engine.grammar import Grammar
from server.engine.types import (
    Delta,
    Device,
    Dialect,
    Event,
    Finished,
    FinishReason,
    GenerationRequest,
    Load,
    ModelCard,
    Piece,
    Scored,
    Shape,
    TokenLogprobs,
)


@dataclass(frozen=True, kw_only=True)
class Script:
    """What one request is answered with.

    ``pieces`` become one :class:`Delta` of one token each. ``delay_s`` is slept before every
    piece. ``fail_at`` raises :class:`GenerationFailed` instead of that piece (0 is the first).
    ``refusal`` is raised by ``submit``. ``hold_at`` waits before that piece until the request is
    aborted or :meth:`ScriptedEngine.release` is called. ``logprobs`` are those of the pieces, and
    ``scored`` comes before them.
    """

    pieces: tuple[str, ...] = ("你好", "！")
    reason: FinishReason = "stop"
    delay_s: float = 0.0
    fail_at: int | None = None
    hold_at: int | None = None
    refusal: Exception | None = None
    cached_tokens: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()
    scored: Scored | None = None


def card(name: str, parent: str | None = None, **values: object) -> ModelCard:
    """A model card with plausible values for whatever is left out."""
    defaults: dict[str, object] = {"digest": f"digest-{name}", "created": 1, "context_length": 4096}
    return ModelCard(name=name, parent=parent, **defaults | values)  # type: ignore[arg-type]


# What Qwen3's chat template knows.
QWEN3 = Dialect(has_calls=True, can_choose=True, thought_on="possible", thought_off="none")


@dataclass
class ScriptedEngine:
    """An :class:`server.engine.types.Engine` that plays scripts and records what it was asked.

    Each request takes the next of ``scripts``; the last one repeats. ``requests`` and ``prompts``
    hold what came in, ``prompted`` what else the prompts were to show, ``shapes`` what replies were
    to be held to, ``aborted`` the ids of requests whose abort was called before their end,
    ``running`` those that have neither ended nor been aborted.
    """

    cards: list[ModelCard] = field(default_factory=lambda: [card("base"), card("poet", "base")])
    scripts: Iterable[Script] = (Script(),)
    requests: list[GenerationRequest] = field(default_factory=list)
    prompts: list[list[dict[str, Any]]] = field(default_factory=list)
    prompted: list[dict[str, Any]] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    dialect: Dialect = QWEN3
    aborted: list[str] = field(default_factory=list)
    running: dict[str, ScriptedGeneration] = field(default_factory=dict)
    is_ready: bool = False
    is_closed: bool = False

    def __post_init__(self) -> None:
        self._scripts = list(self.scripts)
        self._next = 0

    async def start(self) -> None:
        self.is_ready = True

    @property
    def capacity(self) -> int:
        return 16

    @property
    def base(self) -> Base:
        """One that adapters cannot be made for: it is nowhere on the disk."""
        shape = Architecture("qwen3", 64, 128, 2, 4, 2, 16, 256, 4096)
        name = self.cards[0].name
        return Base(
            name, Path("/nowhere") / name, shape, BaseRef(name, "0" * 64, "1" * 64, "2" * 64)
        )

    @property
    def device(self) -> Device:
        return Device(kind="cpu", name="a scripted processor", weights="fp32")

    async def refresh(self) -> None:
        """There is nothing to look at; ``cards`` are what they are."""

    def load(self) -> Load:
        if not self.is_ready:
            raise EngineClosed
        return Load(running=len(self.running), resident=frozenset({"digest-poet"}))

    def piece(self, token: int) -> Piece:
        """One token is one byte; 0 is a control token, and beyond the bytes there is nothing."""
        text = bytes([token]) if token in range(256) else b""
        return Piece(text, text) if token else Piece(b"<end>", b"")

    async def encode(
        self, text: str, *, parse_special: bool = False, must_fit: bool = True
    ) -> tuple[int, ...]:
        """One token for each byte."""
        return tuple(text.replace("<end>", "\0").encode() if parse_special else text.encode())

    async def grammar(self, shape: Shape) -> Callable[[], Grammar]:
        """Only noted; replies are as scripted."""
        self.shapes.append(shape)

        def make() -> Grammar:
            raise AssertionError("a scripted reply needs no grammar")

        return make

    def decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self.piece(token).name for token in tokens).decode(errors="replace")

    async def close(self) -> None:
        self.is_ready = False
        self.is_closed = True
        for generation in list(self.running.values()):
            generation.stop()

    def models(self) -> Sequence[ModelCard]:
        return list(self.cards)

    def model(self, name: str) -> ModelCard:
        for known in self.cards:
            if known.name == name:
                return known
        raise UnknownModel(name)

    async def prompt(self, messages: Sequence[Mapping[str, Any]], **shown: Any) -> tuple[int, ...]:
        """One token for each UTF-8 byte of the contents."""
        self.prompts.append([dict(message) for message in messages])
        self.prompted.append(shown)
        return tuple("".join(message["content"] for message in messages).encode())

    async def submit(self, request: GenerationRequest) -> ScriptedGeneration:
        self.requests.append(request)
        if self.is_closed:
            raise EngineClosed
        known = self.model(request.model)
        script = self._scripts[min(self._next, len(self._scripts) - 1)]
        self._next += 1
        if script.refusal is not None:
            raise script.refusal
        generation = ScriptedGeneration(self, request, script, known.digest)
        self.running[request.id] = generation
        return generation

    def release(self) -> None:
        """Let every generation that waits at ``hold_at`` go on."""
        for generation in self.running.values():
            generation.released.set()


class ScriptedGeneration:
    """Plays one script."""

    def __init__(
        self, engine: ScriptedEngine, request: GenerationRequest, script: Script, digest: str
    ) -> None:
        self.id = request.id
        self.digest = digest
        self.released = asyncio.Event()
        self._engine = engine
        self._request = request
        self._script = script
        self._is_aborted = False
        self.is_at_hand = False

    def abort(self) -> None:
        if self.id in self._engine.running:
            self._engine.aborted.append(self.id)
            self.stop()

    def stop(self) -> None:
        self._engine.running.pop(self.id, None)
        self._is_aborted = True
        self.released.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        sent = 0
        if self._script.scored is not None:
            yield self._script.scored
        for index, piece in enumerate(self._script.pieces):
            await asyncio.sleep(self._script.delay_s)
            if self._script.hold_at == index:
                await self.released.wait()
            if self._is_aborted:
                break
            self._fail_if_scripted(index)
            sent += 1
            yield Delta(piece, 1, self._script.logprobs[index : index + 1])
        self._fail_if_scripted(sent)
        self._engine.running.pop(self.id, None)
        reason: FinishReason = "abort" if self._is_aborted else self._script.reason
        yield Finished(reason, len(self._request.prompt), sent, self._script.cached_tokens)

    def _fail_if_scripted(self, index: int) -> None:
        if self._script.fail_at == index and not self._is_aborted:
            self._engine.running.pop(self.id, None)
            raise GenerationFailed("The scripted failure.")
