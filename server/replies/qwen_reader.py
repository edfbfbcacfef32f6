"""Replies as Qwen's models write them: thoughts in ``<think>…</think>``, then text and calls."""

from __future__ import annotations

from collections.abc import Callable, Collection

from server.engine.dialect import THINK, THINK_END
from server.engine.text import ThoughtFinder
from server.engine.types import Thought
from server.replies.call_reader import CallReader, new_id
from server.replies.parts import Part, ReasoningPart


class QwenReader:
    """Reads calls of ``functions``, and a ``thought`` before (:mod:`server.replies.parts`).

    Line ends around a thought are not told. A thought that does not end is all there is.
    """

    def __init__(
        self,
        *,
        thought: Thought = "none",
        functions: Collection[str] = (),
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self._finder = ThoughtFinder(thought)
        self._has_thought = False
        self._has_opening = thought == "possible"
        self._has_begun = False  # with anything but line ends
        self._line_ends = 0  # that may be the last of the thought
        self._rest = CallReader(functions, make_id=make_id)

    @property
    def has_calls(self) -> bool:
        return self._rest.has_calls

    def feed(self, text: str) -> list[Part]:
        return self._read(*self._finder.feed(text))

    def finish(self) -> list[Part]:
        return [*self._read(*self._finder.finish()), *self._rest.finish()]

    def _read(self, thought: str, rest: str) -> list[Part]:
        parts: list[Part] = []
        if thought:
            self._rest.follow_thought(len(thought))
            if told := self._told(thought):
                parts.append(ReasoningPart(told))
        return parts + self._rest.feed(rest)

    def _told(self, thought: str) -> str:
        """More of the thought, without the marks and the line ends at its edges."""
        if not self._has_thought:
            self._has_thought = True
            thought = thought.removeprefix(THINK) if self._has_opening else thought
        if not self._finder.is_open:
            thought = thought.removesuffix(THINK_END)
        if not self._has_begun:
            thought = thought.lstrip("\n")
            self._has_begun = bool(thought)
        body = thought.rstrip("\n")
        before, self._line_ends = self._line_ends, len(thought) - len(body)
        if not body:
            self._line_ends += before
            return ""
        return "\n" * before + body
