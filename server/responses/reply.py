"""The answers of ``/v1/responses``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from server.http.sse import frame
from server.replies.choice import Choice
from server.replies.choices import events
from server.replies.logprobs import chat_logprobs
from server.replies.parts import ContentPart, Part
from server.replies.reply import Answer, Reply
from server.responses.writer import ItemWriter
from server.wire.completions import TokenLogprob, Usage
from server.wire.errors import ErrorEnvelope
from server.wire.response_events import (
    ResponseCompleted,
    ResponseCreated,
    ResponseEvent,
    ResponseFailed,
    ResponseIncomplete,
    ResponseInProgress,
)
from server.wire.response_objects import (
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    ResponseError,
    ResponseObject,
    ResponseUsage,
)
from server.wire.responses import ItemStatus


class ResponseReply(Reply[ResponseObject]):
    """One response, or events that show it grow.

    ``begun`` is the response before there is anything of it; ``keep`` puts one that has ended where
    others can go on from it, and tells whether it did.
    """

    end: ClassVar[bytes] = b""  # the last event is the end

    def __init__(
        self, answer: Answer, begun: ResponseObject, keep: Callable[[ResponseObject], bool]
    ) -> None:
        super().__init__(answer)
        self._begun = begun
        self._keep = keep
        self._writer = ItemWriter()

    async def whole(self) -> ResponseObject:
        """All of it at once: what a stream would end with.

        Raises:
            GenerationFailed: it broke off.
            EngineClosed: the server stopped before it was complete.
        """
        async with aclosing(events(self.answer.generations)) as happening:
            async for index, event in happening:
                self._frames_of(self.choices[index], event)
        return self.completion(self.choices, self._usage())

    def completion(self, choices: Sequence[Choice], usage: Usage) -> ResponseObject:
        is_cut = choices[0].end_reason == "length"
        ended = replace(
            self._begun,
            status="incomplete" if is_cut else "completed",
            incomplete_details=IncompleteDetails() if is_cut else None,
            completed_at=None if is_cut else int(time.time()),
            output=self._writer.items(),
            usage=_usage(usage),
        )
        if not ended.store or self._keep(ended):
            return ended
        return replace(ended, store=False)

    def first_frames(self) -> Sequence[ResponseEvent]:
        numbers = self._writer.numbers
        return [
            ResponseCreated(sequence_number=next(numbers), response=self._begun),
            ResponseInProgress(sequence_number=next(numbers), response=self._begun),
        ]

    def opening_frames(self, choice: Choice) -> Sequence[ResponseEvent]:  # noqa: ARG002 - nothing
        return []

    def part_frames(self, choice: Choice, part: Part) -> Sequence[ResponseEvent]:
        logprobs = self._logprobs(choice) if isinstance(part, ContentPart) else ()
        return self._writer.write(part, logprobs)

    def finish_frames(self, choice: Choice) -> Sequence[ResponseEvent]:
        status: ItemStatus = "incomplete" if choice.end_reason == "length" else "completed"
        return self._writer.end(status, self._logprobs(choice))

    def last_frames(self, usage: Usage) -> Sequence[ResponseEvent]:
        response = self.completion(self.choices, usage)
        last = ResponseCompleted if response.status == "completed" else ResponseIncomplete
        return [last(sequence_number=next(self._writer.numbers), response=response)]

    def error_frame(self, envelope: ErrorEnvelope) -> ResponseEvent:
        failed = replace(
            self._begun,
            status="failed",
            error=ResponseError(message=envelope.error.message),
            output=self._writer.items("incomplete"),
            store=False,
        )
        return ResponseFailed(sequence_number=next(self._writer.numbers), response=failed)

    def encoded(self, value: msgspec.Struct) -> bytes:
        assert isinstance(value, ResponseEvent)
        return frame(value, event=value.event_name())

    def _logprobs(self, choice: Choice) -> list[TokenLogprob]:
        found = choice.take() if self.answer.has_logprobs else ()
        return chat_logprobs(found, self.answer.piece)


def _usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(
            cached_tokens=usage.prompt_tokens_details.cached_tokens
        ),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(
            reasoning_tokens=usage.completion_tokens_details.reasoning_tokens
        ),
        total_tokens=usage.total_tokens,
    )
