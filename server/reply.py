"""From the engine's events to the wire, whatever the endpoint: all at once, or frame by frame."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from server.choices import events
from server.engine.errors import EngineClosed
from server.engine.types import Delta, Finished, Generation, TokenLogprobs
from server.errors import report
from server.logprobs import PieceOf
from server.sse import DONE, frame
from server.wire.completions import FinishReason, PromptTokensDetails, Usage

WholeT = TypeVar("WholeT")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What all parts of an answer have in common.

    ``generations`` are the choices of the first prompt, ``choices`` of them, then those of the
    next. ``piece`` tells what a token reads as, for ``has_logprobs``.
    """

    id: str
    model: str
    generations: Sequence[Generation]
    piece: PieceOf
    choices: int = 1
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


@dataclass
class Choice:
    """One reply as far as it has come. ``logprobs`` are those that nothing sent has shown yet."""

    index: int
    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finished: Finished | None = None
    is_opened: bool = False

    def take(self) -> list[TokenLogprobs]:
        """The logprobs to show now."""
        shown, self.logprobs = self.logprobs, []
        return shown

    @property
    def finish_reason(self) -> FinishReason:
        """OpenAI knows no ``abort``: a reply that we cut off is an error, not a result.

        Raises:
            EngineClosed: it was cut off.
        """
        assert self.finished is not None
        if self.finished.reason == "abort":
            raise EngineClosed
        return self.finished.reason


class Reply(ABC, Generic[WholeT]):
    """The replies to one request. Subclasses know their endpoint's shapes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._choices = [Choice(index) for index in range(len(answer.generations))]

    async def whole(self) -> WholeT:
        """All of it at once.

        Raises:
            GenerationFailed: it broke off.
            EngineClosed: the server stopped before it was complete.
        """
        async with aclosing(events(self.answer.generations)) as happening:
            async for index, event in happening:
                choice = self._choices[index]
                if isinstance(event, Finished):
                    choice.finished = event
                else:
                    choice.text.append(event.text)
                    choice.logprobs += event.logprobs
        return self.completion(self._choices, self._usage())

    async def frames(self) -> AsyncIterator[bytes]:
        """The stream: each reply to its finish, usage if asked; or an error; then ``[DONE]``."""
        try:
            async with aclosing(events(self.answer.generations)) as happening:
                async for index, event in happening:
                    if sent := self._frames_of(self._choices[index], event):
                        yield sent
            if self.answer.has_usage:
                yield frame(self.last_frame(self._usage()))
        except Exception as error:  # noqa: BLE001  # the status is sent: this is all that can be said
            yield frame(report(error, self.answer.id).envelope)
        yield DONE

    def _frames_of(self, choice: Choice, event: Delta | Finished) -> bytes:
        """What an event makes visible; nothing is sent before a reply has begun."""
        shown: list[msgspec.Struct] = []
        if isinstance(event, Finished):
            choice.finished = event
            reason = choice.finish_reason
            shown += self._opening(choice)
            if choice.logprobs:
                shown.append(self.text_frame(choice, ""))
            shown.append(self.finish_frame(choice, reason))
        else:
            choice.logprobs += event.logprobs
            if event.text:
                shown += self._opening(choice)
                shown.append(self.text_frame(choice, event.text))
        return b"".join(map(frame, shown))

    def _opening(self, choice: Choice) -> Sequence[msgspec.Struct]:
        if choice.is_opened:
            return ()
        choice.is_opened = True
        return self.opening_frames(choice)

    def _usage(self) -> Usage:
        """A prompt counts once, however many replies; cached is what none of them computed."""
        ends = [choice.finished for choice in self._choices if choice.finished is not None]
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
        )

    # What an endpoint's answers look like

    @abstractmethod
    def completion(self, choices: Sequence[Choice], usage: Usage) -> WholeT:
        """The whole answer."""

    @abstractmethod
    def opening_frames(self, choice: Choice) -> Sequence[msgspec.Struct]:
        """What comes before the first text of a reply."""

    @abstractmethod
    def text_frame(self, choice: Choice, text: str) -> msgspec.Struct:
        """New text, with the logprobs that belong to it."""

    @abstractmethod
    def finish_frame(self, choice: Choice, reason: FinishReason) -> msgspec.Struct:
        """The end of one reply."""

    @abstractmethod
    def last_frame(self, usage: Usage) -> msgspec.Struct:
        """The end of all, if usage was asked for."""
