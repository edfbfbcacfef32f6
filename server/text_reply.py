"""The answers of ``/v1/completions``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from server.logprobs import Offsets, text_logprobs
from server.reply import Answer, Choice, Reply
from server.wire.completions import FinishReason, Usage
from server.wire.text import TextChoice, TextCompletion, TextLogprobs


@dataclass
class _Echo:
    """What is put before a reply, and where in the text its next token begins."""

    text: str
    offsets: Offsets = field(init=False)

    def __post_init__(self) -> None:
        self.offsets = Offsets(len(self.text))


class TextReply(Reply[TextCompletion]):
    """One completion, or frames of the same shape. ``echoes``: a text for each prompt, or none."""

    def __init__(self, answer: Answer, echoes: Sequence[str] = ()) -> None:
        super().__init__(answer)
        numbers = range(len(answer.generations))
        self._echoes = [
            _Echo(echoes[number // answer.choices] if echoes else "") for number in numbers
        ]

    def completion(self, choices: Sequence[Choice], usage: Usage) -> TextCompletion:
        texts = ["".join([self._echoes[each.index].text, *each.text]) for each in choices]
        done = [
            self._choice(choice, text, choice.finish_reason)
            for choice, text in zip(choices, texts, strict=True)
        ]
        return self._completion(done, usage)

    def opening_frames(self, choice: Choice) -> Sequence[TextCompletion]:
        echo = self._echoes[choice.index].text
        return [self._completion([TextChoice(index=choice.index, text=echo)])] if echo else []

    def text_frame(self, choice: Choice, text: str) -> TextCompletion:
        return self._completion([self._choice(choice, text)])

    def finish_frame(self, choice: Choice, reason: FinishReason) -> TextCompletion:
        end = TextChoice(index=choice.index, text="", finish_reason=reason)
        return self._completion([end])

    def last_frame(self, usage: Usage) -> TextCompletion:
        return self._completion([], usage)

    def _choice(self, choice: Choice, text: str, reason: FinishReason | None = None) -> TextChoice:
        return TextChoice(
            index=choice.index, text=text, logprobs=self._logprobs(choice), finish_reason=reason
        )

    def _logprobs(self, choice: Choice) -> TextLogprobs | None:
        if not self.answer.has_logprobs:
            return None
        offsets = self._echoes[choice.index].offsets
        return text_logprobs(choice.take(), self.answer.piece, offsets)

    def _completion(self, choices: list[TextChoice], usage: Usage | None = None) -> TextCompletion:
        return TextCompletion(
            id=self.answer.id,
            created=self.answer.created,
            model=self.answer.model,
            system_fingerprint=self.answer.fingerprint,
            choices=choices,
            usage=usage or self.answer.no_usage,
        )
