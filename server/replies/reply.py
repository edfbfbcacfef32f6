"""From the engine's events to the wire, whatever the endpoint: all at once, or frame by frame."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from server.engine.types import Delta, Event, Finished, Generation
from server.errors import report
from server.http.sse import DONE, frame
from server.replies.choice import Choice
from server.replies.choices import events
from server.replies.logprobs import PieceOf
from server.replies.parts import Part, PartReader, PlainReader
from server.wire.completions import CompletionTokensDetails, PromptTokensDetails, Usage
from server.wire.errors import ErrorEnvelope

WholeT = TypeVar("WholeT")

# Events of a reply that are sent together at most, however many there are.
MOST_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What all parts of an answer have in common.

    ``generations`` are the choices of the first prompt, ``choices`` of them, then those of the
    next. ``piece`` tells what a token reads as, for ``has_logprobs``; ``reader`` makes what reads
    one of them. ``max_tokens`` is what holds for each; ``None``: the context alone does.
    """

    id: str
    model: str
    generations: Sequence[Generation]
    piece: PieceOf
    reader: Callable[[], PartReader] = PlainReader
    choices: int = 1
    max_tokens: int | None = None
    has_logprobs: bool = False
    has_usage: bool = False
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def fingerprint(self) -> str:
        """Changes with the model's weights."""
        return f"fp_{self.generations[0].digest[:12]}"

    @property
    def no_usage(self) -> UnsetType | None:
        """What stands for the token counts in every frame but the last."""
        return None if self.has_usage else UNSET


class Reply(ABC, Generic[WholeT]):
    """The replies to one request. Subclasses know their endpoint's shapes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.choices = [
            Choice(index, answer.reader(), answer.piece) for index in range(len(answer.generations))
        ]

    async def whole(self) -> WholeT:
        """All of it at once.

        Raises:
            GenerationFailed: it broke off.
            EngineClosed: the server stopped before it was complete.
        """
        async with aclosing(events(self.answer.generations)) as happening:
            async for index, event in happening:
                self.choices[index].feed(event)
        return self.completion(self.choices, self._usage())

    async def frames(self) -> AsyncIterator[bytes]:
        """The stream: each reply to its finish, usage if asked; or an error; then the end.

        What is there at once comes at once: a stream that lags behind its replies, because the
        processor is busy or its client was, catches up in one send, which costs far more than
        making a frame.
        """
        frames: list[bytes] = []
        try:
            for first in self.first_frames():
                yield self.encoded(first)
            async with aclosing(events(self.answer.generations)) as happening:
                async for index, event in happening:
                    if shown := self._shown(self.choices[index], event):
                        frames.append(shown)
                    if frames and (len(frames) >= MOST_AT_ONCE or not self._is_more_at_hand(event)):
                        yield b"".join(frames)
                        frames.clear()
            frames += map(self.encoded, self.last_frames(self._usage()))
        except Exception as error:  # noqa: BLE001  # the status is sent: this is all that can be said
            envelope = report(error, self.answer.id).envelope
            frames.append(self.encoded(self.error_frame(envelope)))
        yield b"".join([*frames, self.end])

    def _is_more_at_hand(self, event: Event) -> bool:
        """Whether what comes after ``event`` need not be waited for: the end never has to."""
        if isinstance(event, Finished) and all(choice.finished for choice in self.choices):
            return True
        return any([each.is_at_hand for each in self.answer.generations])  # noqa: C419 - quicker

    def _shown(self, choice: Choice, event: Event) -> bytes:
        """What an event makes visible, as events of the stream."""
        if choice.is_opened and isinstance(event, Delta):
            return b"".join([self.part_bytes(choice, part) for part in choice.feed(event)])
        return b"".join(map(self.encoded, self._frames_of(choice, event)))

    def _frames_of(self, choice: Choice, event: Event) -> list[msgspec.Struct]:
        """What an event makes visible; nothing is sent before a reply has begun."""
        parts = choice.feed(event)
        is_end = isinstance(event, Finished)
        if not parts and not is_end:
            return []
        shown: list[msgspec.Struct] = []
        if not choice.is_opened:
            choice.is_opened = True
            shown += self.opening_frames(choice)
        for part in parts:
            shown += self.part_frames(choice, part)
        if is_end:
            shown += self.finish_frames(choice)
        return shown

    def _usage(self) -> Usage:
        """A prompt counts once, however many replies; cached is what none of them computed."""
        ends = [choice.finished for choice in self.choices if choice.finished is not None]
        groups = [
            ends[at : at + self.answer.choices] for at in range(0, len(ends), self.answer.choices)
        ]
        prompt_tokens = sum(group[0].prompt_tokens for group in groups)
        completion_tokens = sum(end.completion_tokens for end in ends)
        cached_tokens = sum(min(end.cached_tokens for end in group) for group in groups)
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=cached_tokens),
            completion_tokens_details=CompletionTokensDetails(
                reasoning_tokens=sum(choice.reasoning_tokens for choice in self.choices)
            ),
        )

    # What an endpoint's answers look like

    end: ClassVar[bytes] = DONE

    def encoded(self, value: msgspec.Struct) -> bytes:
        """A frame as an event of the stream."""
        return frame(value)

    def error_frame(self, envelope: ErrorEnvelope) -> msgspec.Struct:
        """What a stream says that breaks off."""
        return envelope

    @abstractmethod
    def completion(self, choices: Sequence[Choice], usage: Usage) -> WholeT:
        """The whole answer."""

    def first_frames(self) -> Sequence[msgspec.Struct]:
        """What a stream begins with, before anything is known of its replies."""
        return ()

    @abstractmethod
    def opening_frames(self, choice: Choice) -> Sequence[msgspec.Struct]:
        """What comes before the first part of a reply."""

    @abstractmethod
    def part_frames(self, choice: Choice, part: Part) -> Sequence[msgspec.Struct]:
        """A new part, with the logprobs that belong to it."""

    def part_bytes(self, choice: Choice, part: Part) -> bytes:
        """The same as events of the stream."""
        return b"".join(map(self.encoded, self.part_frames(choice, part)))

    @abstractmethod
    def finish_frames(self, choice: Choice) -> Sequence[msgspec.Struct]:
        """The end of one reply, with the logprobs that are left."""

    @abstractmethod
    def last_frames(self, usage: Usage) -> Sequence[msgspec.Struct]:
        """The end of all; with the token counts, if they were asked for."""
