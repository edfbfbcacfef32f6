"""From the engine's events to the wire: one completion, or the frames of a stream."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from msgspec import UNSET

from server.engine.errors import EngineClosed, GenerationFailed
from server.engine.types import Delta, Finished, Generation
from server.errors import report
from server.sse import DONE, frame
from server.wire.completions import (
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    ChunkDelta,
    FinishReason,
    PromptTokensDetails,
    ReplyMessage,
    Usage,
)


class Reply:
    """One reply: what all its parts have in common, and how each part looks."""

    def __init__(self, generation: Generation, model: str, *, has_usage: bool = False) -> None:
        self._generation = generation
        self._model = model
        self._has_usage = has_usage
        self._created = int(time.time())
        self._fingerprint = f"fp_{generation.digest[:12]}"

    async def completion(self) -> ChatCompletion:
        """The whole reply at once.

        Raises:
            GenerationFailed: it broke off.
            EngineClosed: the server stopped before it was complete.
        """
        pieces: list[str] = []
        async for event in self._generation:
            if isinstance(event, Delta):
                pieces.append(event.text)
            else:
                return self._whole("".join(pieces), event)
        raise _endless()

    async def frames(self) -> AsyncIterator[bytes]:
        """The stream: role, text, finish, usage if asked for; or an error; then ``[DONE]``."""
        try:
            async for piece in self._pieces():
                yield piece
        except Exception as error:  # noqa: BLE001  # the status is sent: this is all that can be said
            yield frame(report(error, self._generation.id).envelope)
        yield DONE

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The role leads the first text, so that nothing is sent before the reply has begun."""
        opening = self._delta(ChunkDelta(role="assistant", content=""))
        async for event in self._generation:
            if isinstance(event, Finished):
                yield opening + self._end(event)
                return
            if event.text:
                yield opening + self._delta(ChunkDelta(content=event.text))
                opening = b""
        raise _endless()

    def _whole(self, text: str, event: Finished) -> ChatCompletion:
        choice = Choice(message=ReplyMessage(content=text), finish_reason=_finish_reason(event))
        return ChatCompletion(
            id=self._generation.id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=[choice],
            usage=_usage(event),
        )

    def _delta(self, delta: ChunkDelta, finish_reason: FinishReason | None = None) -> bytes:
        return self._frame([ChunkChoice(delta=delta, finish_reason=finish_reason)])

    def _end(self, event: Finished) -> bytes:
        end = self._delta(ChunkDelta(), _finish_reason(event))
        return end + self._frame([], _usage(event)) if self._has_usage else end

    def _frame(self, choices: list[ChunkChoice], usage: Usage | None = None) -> bytes:
        chunk = ChatCompletionChunk(
            id=self._generation.id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=choices,
            usage=usage if self._has_usage else UNSET,
        )
        return frame(chunk)


def _finish_reason(event: Finished) -> FinishReason:
    """OpenAI knows no ``abort``: a reply that we cut off is an error, not a result."""
    if event.reason == "abort":
        raise EngineClosed
    return event.reason


def _usage(event: Finished) -> Usage:
    return Usage(
        prompt_tokens=event.prompt_tokens,
        completion_tokens=event.completion_tokens,
        total_tokens=event.prompt_tokens + event.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=event.cached_tokens),
    )


def _endless() -> GenerationFailed:
    return GenerationFailed("The engine ended the reply without saying why.")
