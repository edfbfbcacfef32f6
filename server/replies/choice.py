"""One reply as far as it has come: its parts put together, whatever the endpoint shows of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from server.engine.errors import EngineClosed
from server.engine.types import Event, Finished, Scored, TokenLogprobs
from server.replies.logprobs import Offsets, PieceOf
from server.replies.parts import (
    ArgumentsPart,
    CallPart,
    ContentPart,
    Part,
    PartReader,
    ReasoningPart,
)
from server.wire.completions import EndReason, FinishReason


@dataclass
class Call:
    """A call of a function as far as it has come. ``arguments`` together are one JSON object."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A token whose text is not told yet: it stands from ``begin`` to ``end`` in the reply's."""

    begin: int
    end: int
    logprobs: TokenLogprobs


@dataclass
class Choice:
    """One reply, as ``reader`` understands it.

    ``logprobs`` are those of the content that nothing sent has shown yet; ``piece`` tells what
    their tokens read as. ``reasoning_tokens``: how many tokens led up to the end of the thoughts.
    ``scored``: how likely the prompt was, where that is asked for.
    """

    index: int
    reader: PartReader
    piece: PieceOf | None = None
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    reasoning_tokens: int = 0
    scored: Scored | None = None
    finished: Finished | None = None
    is_opened: bool = False
    _tokens: int = 0
    _waiting: list[_Waiting] = field(default_factory=list)
    _offsets: Offsets = field(default_factory=Offsets)
    _ends_in_content: bool = True

    def feed(self, event: Event) -> list[Part]:
        """The parts that ``event`` adds, which are also kept.

        OpenAI knows no ``abort``: a reply that we cut off is an error, not a result.

        Raises:
            EngineClosed: it was cut off.
        """
        if isinstance(event, Scored):
            self.scored = event
            return []
        if isinstance(event, Finished):
            if event.reason == "abort":
                raise EngineClosed
            self.finished = event
            parts = self.reader.finish()
        else:
            self._tokens += event.tokens
            if event.logprobs:
                self._await(event.logprobs)
            parts = self.reader.feed(event.text)
        for part in parts:
            self._keep(part)
        if self.finished is not None and self._ends_in_content:
            self._show(self._waiting)  # of a stop string, which is not in the text
            self._waiting = []
        return parts

    def _keep(self, part: Part) -> None:
        self._ends_in_content = isinstance(part, ContentPart)
        match part:
            case ContentPart(text, begin):
                self.content.append(text)
                self._show_those_in(begin, len(text))
            case ReasoningPart(text):
                self.reasoning.append(text)
                self.reasoning_tokens = self._tokens
            case CallPart():
                self.calls.append(Call(part.id, part.name))
            case ArgumentsPart(index, text):
                self.calls[index].arguments.append(text)

    # Logprobs: those of a token that has a share in the content, and of no other

    def _await(self, found: Sequence[TokenLogprobs]) -> None:
        for each in found:
            assert self.piece is not None
            begin = self._offsets.next(self.piece(each.token).text)
            self._waiting.append(_Waiting(begin, self._offsets.at, each))

    def _show_those_in(self, begin: int | None, length: int) -> None:
        if not self._waiting:
            return
        if begin is None:  # all of the reply is content
            self._show(self._waiting)
            self._waiting = []
            return
        behind = [each for each in self._waiting if each.begin >= begin + length]
        # A token without text of its own stands at the character that it is a part of.
        self._show(
            each
            for each in self._waiting
            if each.begin < begin + length and max(each.end, each.begin + 1) > begin
        )
        self._waiting = behind

    def _show(self, waiting: Iterable[_Waiting]) -> None:
        self.logprobs += [each.logprobs for each in waiting]

    def take(self) -> list[TokenLogprobs]:
        """The logprobs to show now."""
        shown, self.logprobs = self.logprobs, []
        return shown

    @property
    def end_reason(self) -> EndReason:
        """Why it ended; known once it has."""
        assert self.finished is not None
        assert self.finished.reason != "abort"
        return self.finished.reason

    @property
    def finish_reason(self) -> FinishReason:
        """Like :attr:`end_reason`; a reply that calls functions waits for what they return."""
        reason = self.end_reason
        return "tool_calls" if reason == "stop" and self.reader.has_calls else reason
