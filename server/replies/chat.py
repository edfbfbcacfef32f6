"""The answers of ``/v1/chat/completions``."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from server.http.sse import Template
from server.replies.choice import Choice
from server.replies.logprobs import chat_logprobs
from server.replies.parts import ArgumentsPart, CallPart, ContentPart, Part, ReasoningPart
from server.replies.reply import Answer, Reply
from server.wire.completions import (
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChunkChoice,
    ChunkDelta,
    FunctionDelta,
    Logprobs,
    ReplyMessage,
    ToolCallDelta,
    Usage,
)
from server.wire.tools import FunctionCall, ToolCall


class ChatReply(Reply[ChatCompletion]):
    """One completion, or chunks: role, then thoughts, text and calls, finish, usage."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._templates: dict[int, Template] = {}  # of chunks of text, by choice

    def completion(self, choices: Sequence[Choice], usage: Usage) -> ChatCompletion:
        return ChatCompletion(
            id=self.answer.id,
            created=self.answer.created,
            model=self.answer.model,
            system_fingerprint=self.answer.fingerprint,
            choices=[
                ChatChoice(
                    index=choice.index,
                    message=_message(choice),
                    logprobs=self._logprobs(choice),
                    finish_reason=choice.finish_reason,
                )
                for choice in choices
            ],
            usage=usage,
        )

    def opening_frames(self, choice: Choice) -> Sequence[ChatCompletionChunk]:
        delta = ChunkDelta(role="assistant", content="" if _has_content(choice) else None)
        return [self._delta(choice, delta)]

    def part_frames(self, choice: Choice, part: Part) -> Sequence[ChatCompletionChunk]:
        match part:
            case ContentPart(text):
                return [self._text_frame(choice, text)]
            case ReasoningPart(text):
                return [self._delta(choice, ChunkDelta(reasoning_content=text))]
            case CallPart(index, id, name):
                function = FunctionDelta(name=name, arguments="")
                call = ToolCallDelta(index=index, id=id, type="function", function=function)
            case ArgumentsPart(index, text):
                call = ToolCallDelta(index=index, function=FunctionDelta(arguments=text))
        return [self._delta(choice, ChunkDelta(tool_calls=[call]))]

    def part_bytes(self, choice: Choice, part: Part) -> bytes:
        if self.answer.has_logprobs or not isinstance(part, ContentPart):
            return super().part_bytes(choice, part)
        if choice.index not in self._templates:
            empty = self._text_frame(choice, "")
            self._templates[choice.index] = Template(empty, b'"delta":{"content":')
        return self._templates[choice.index].filled(part.text)

    def _text_frame(self, choice: Choice, text: str) -> ChatCompletionChunk:
        return self._delta(choice, ChunkDelta(content=text), self._logprobs(choice))

    def _delta(
        self, choice: Choice, delta: ChunkDelta, logprobs: Logprobs | None = None
    ) -> ChatCompletionChunk:
        return self._chunk([ChunkChoice(index=choice.index, delta=delta, logprobs=logprobs)])

    def finish_frames(self, choice: Choice) -> Sequence[ChatCompletionChunk]:
        end = ChunkChoice(
            index=choice.index, delta=ChunkDelta(), finish_reason=choice.finish_reason
        )
        left = [self._text_frame(choice, "")] if choice.logprobs else []
        return [*left, self._chunk([end])]

    def last_frames(self, usage: Usage) -> Sequence[ChatCompletionChunk]:
        return [self._chunk([], usage)] if self.answer.has_usage else []

    def _chunk(self, choices: list[ChunkChoice], usage: Usage | None = None) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=self.answer.id,
            created=self.answer.created,
            model=self.answer.model,
            system_fingerprint=self.answer.fingerprint,
            choices=choices,
            usage=usage or self.answer.no_usage,
        )

    def _logprobs(self, choice: Choice) -> Logprobs | None:
        if not self.answer.has_logprobs:
            return None
        return Logprobs(content=chat_logprobs(choice.take(), self.answer.piece))


def _message(choice: Choice) -> ReplyMessage:
    calls = [
        ToolCall(
            id=call.id, function=FunctionCall(name=call.name, arguments="".join(call.arguments))
        )
        for call in choice.calls
    ]
    return ReplyMessage(
        content="".join(choice.content) if _has_content(choice) else None,
        reasoning_content="".join(choice.reasoning) or UNSET,
        tool_calls=calls or UNSET,
    )


def _has_content(choice: Choice) -> bool:
    """A reply without anything is an empty answer."""
    return bool(choice.content) or not (choice.reasoning or choice.calls)
