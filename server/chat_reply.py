"""The answers of ``/v1/chat/completions``."""

from __future__ import annotations

from collections.abc import Sequence

from server.logprobs import chat_logprobs
from server.reply import Choice, Reply
from server.wire.completions import (
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChunkChoice,
    ChunkDelta,
    FinishReason,
    Logprobs,
    ReplyMessage,
    Usage,
)


class ChatReply(Reply[ChatCompletion]):
    """One completion, or chunks: role, text, finish, usage."""

    def completion(self, choices: Sequence[Choice], usage: Usage) -> ChatCompletion:
        return ChatCompletion(
            id=self.answer.id,
            created=self.answer.created,
            model=self.answer.model,
            system_fingerprint=self.answer.fingerprint,
            choices=[
                ChatChoice(
                    index=choice.index,
                    message=ReplyMessage(content="".join(choice.text)),
                    logprobs=self._logprobs(choice),
                    finish_reason=choice.finish_reason,
                )
                for choice in choices
            ],
            usage=usage,
        )

    def opening_frames(self, choice: Choice) -> Sequence[ChatCompletionChunk]:
        delta = ChunkDelta(role="assistant", content="")
        return [self._chunk([ChunkChoice(index=choice.index, delta=delta)])]

    def text_frame(self, choice: Choice, text: str) -> ChatCompletionChunk:
        shown = ChunkChoice(
            index=choice.index, delta=ChunkDelta(content=text), logprobs=self._logprobs(choice)
        )
        return self._chunk([shown])

    def finish_frame(self, choice: Choice, reason: FinishReason) -> ChatCompletionChunk:
        end = ChunkChoice(index=choice.index, delta=ChunkDelta(), finish_reason=reason)
        return self._chunk([end])

    def last_frame(self, usage: Usage) -> ChatCompletionChunk:
        return self._chunk([], usage)

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
