"""The answers of ``/v1/completions``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from server.http.sse import Template
from server.replies.choice import Choice
from server.replies.logprobs import Offsets, both, prompt_logprobs, text_logprobs
from server.replies.parts import ContentPart, Part
from server.replies.reply import Answer, Reply
from server.wire.completions import Usage
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

    def __init__(self, answer: Answer, echoes: Sequence[str]) -> None:
        super().__init__(answer)
        self._templates: dict[int, Template] = {}  # of frames of text, by choice
        numbers = range(len(answer.generations))
        self._echoes = [
            _Echo(echoes[number // answer.choices] if echoes else "") for number in numbers
        ]

    def completion(self, choices: Sequence[Choice], usage: Usage) -> TextCompletion:
        texts = ["".join([self._echoes[each.index].text, *each.content]) for each in choices]
        done = [
            TextChoice(
                index=choice.index,
                text=text,
                logprobs=self._all_logprobs(choice),
                finish_reason=choice.end_reason,
            )
            for choice, text in zip(choices, texts, strict=True)
        ]
        return self._completion(done, usage)

    def opening_frames(self, choice: Choice) -> Sequence[TextCompletion]:
        echo = self._echoes[choice.index].text
        shown = TextChoice(index=choice.index, text=echo, logprobs=self._echoed(choice))
        return [self._completion([shown])] if echo else []

    def part_frames(self, choice: Choice, part: Part) -> Sequence[TextCompletion]:
        return [self._text_frame(choice, part.text)] if isinstance(part, ContentPart) else []

    def part_bytes(self, choice: Choice, part: Part) -> bytes:
        if self.answer.has_logprobs or not isinstance(part, ContentPart):
            return super().part_bytes(choice, part)
        if choice.index not in self._templates:
            self._templates[choice.index] = Template(self._text_frame(choice, ""), b'"text":')
        return self._templates[choice.index].filled(part.text)

    def _text_frame(self, choice: Choice, text: str) -> TextCompletion:
        logprobs = self._logprobs(choice)
        return self._completion([TextChoice(index=choice.index, text=text, logprobs=logprobs)])

    def finish_frames(self, choice: Choice) -> Sequence[TextCompletion]:
        end = TextChoice(index=choice.index, text="", finish_reason=choice.end_reason)
        left = [self._text_frame(choice, "")] if choice.logprobs else []
        return [*left, self._completion([end])]

    def last_frames(self, usage: Usage) -> Sequence[TextCompletion]:
        return [self._completion([], usage)] if self.answer.has_usage else []

    def _logprobs(self, choice: Choice) -> TextLogprobs | None:
        if not self.answer.has_logprobs:
            return None
        offsets = self._echoes[choice.index].offsets
        return text_logprobs(choice.take(), self.answer.piece, offsets)

    def _echoed(self, choice: Choice) -> TextLogprobs | None:
        """Of the prompt, where they were asked for."""
        if choice.scored is None:
            return None
        text = self._echoes[choice.index].text
        return prompt_logprobs(choice.scored, self.answer.piece, text)

    def _all_logprobs(self, choice: Choice) -> TextLogprobs | None:
        echoed, own = self._echoed(choice), self._logprobs(choice)
        return both(echoed, own) if echoed and own else own

    def _completion(self, choices: list[TextChoice], usage: Usage | None = None) -> TextCompletion:
        return TextCompletion(
            id=self.answer.id,
            created=self.answer.created,
            model=self.answer.model,
            system_fingerprint=self.answer.fingerprint,
            choices=choices,
            usage=usage or self.answer.no_usage,
        )
