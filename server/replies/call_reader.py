"""Calls of functions in running text, as Qwen's models write them, read while they arrive.

The time is in proportion to the text, whatever it is, and nothing in it is evaluated.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection
from enum import Enum, auto

import msgspec

from server.engine.dialect import CALL, CALL_END
from server.engine.text import overlap
from server.replies.parts import ArgumentsPart, CallPart, ContentPart, Part

SPACE = " \t\r\n"
# Longer than this, white space and all, no beginning of a call is.
_LONGEST_HEAD = 256
# What is left of a text is copied for each mark in it.
_MOST_AT_ONCE = 4096
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"arguments"\s*:\s*(?=\{)')
_TAIL = "}" + CALL_END


class _Written(msgspec.Struct):
    name: str
    arguments: msgspec.Raw


class _State(Enum):
    TEXT = auto()
    CALL = auto()  # behind the mark; nothing of it is told yet
    ARGUMENTS = auto()
    TAIL = auto()  # behind the arguments, up to the end mark


def new_id() -> str:
    """An id that no other call has."""
    return f"call_{uuid.uuid4().hex[:24]}"


class CallReader:
    """Tells text from calls of ``functions``; without any, all is text.

    A call is told as soon as its name is certain, its arguments as they come. What looks like a
    call and is none is text. White space around calls, and behind a thought, is not told.
    ``at``: how many characters of the reply are told or dropped.
    """

    def __init__(self, functions: Collection[str], *, make_id: Callable[[], str]) -> None:
        self._functions = frozenset(functions)
        self._make_id = make_id
        self._state = _State.TEXT
        self._calls = 0
        self._drops_space = False
        self._held = ""  # what may be the beginning of a mark
        self._kept: list[str] = []  # white space that may stand before a call, then the call
        self._kept_size = 0
        self._head: str | None = ""  # what a call begins with, unless that is too much
        self._searched = ""  # the end of it, in which an end mark may begin
        self._object = _ObjectEnd()
        self._tail = 0
        self.at = 0

    @property
    def has_calls(self) -> bool:
        """Whether there are calls, all of them with complete arguments."""
        return self._calls > 0 and self._state is not _State.ARGUMENTS

    def follow_thought(self, length: int) -> None:
        """Go on behind a thought of so many characters, marks included."""
        self.at += length
        self._drops_space = True

    def feed(self, text: str) -> list[Part]:
        """The parts that ``text`` makes certain."""
        parts: list[Part] = []
        for begin in range(0, len(text), _MOST_AT_ONCE):
            left = text[begin : begin + _MOST_AT_ONCE]
            while left:
                left = self._read(left, parts)
        return parts

    def _read(self, text: str, parts: list[Part]) -> str:
        match self._state:
            case _State.TEXT:
                return self._read_text(text, parts)
            case _State.CALL:
                return self._read_call(text, parts)
            case _State.ARGUMENTS:
                return self._read_arguments(text, parts)
            case _State.TAIL:
                return self._read_tail(text)

    def finish(self) -> list[Part]:
        """What was held back, once no text follows."""
        parts: list[Part] = []
        if self._state in (_State.TEXT, _State.CALL):
            self._keep(self._held)
            self._held = ""
            self._tell_kept(parts)
        return parts

    # Each takes text in its state and returns what is left for the next state

    def _read_text(self, text: str, parts: list[Part]) -> str:
        text, self._held = self._held + text, ""
        at, cut = -1, len(text)
        if self._functions:
            at = text.find(CALL)
            cut = at if at >= 0 else len(text) - overlap(text, CALL)
        self._add_text(text[:cut], parts)
        if at < 0:
            self._held = text[cut:]
            return ""
        self._keep(CALL)
        self._state = _State.CALL
        self._head, self._searched = "", ""
        return text[at + len(CALL) :]

    def _add_text(self, text: str, parts: list[Part]) -> None:
        if self._drops_space:
            stripped = text.lstrip(SPACE)
            self.at += len(text) - len(stripped)
            text = stripped
            self._drops_space = not text
        visible = text.rstrip(SPACE) if self._functions else text
        self._keep(visible)
        if visible:
            self._tell_kept(parts)
        self._keep(text[len(visible) :])

    def _read_call(self, text: str, parts: list[Part]) -> str:
        before = self._searched
        end = (before + text).find(CALL_END)
        taken = text if end < 0 else text[: end + len(CALL_END) - len(before)]
        if self._head is not None:
            head = self._head + taken
            found = _HEAD.match(head, 0, _LONGEST_HEAD)
            if found and found[1] in self._functions:
                self._keep(head[len(self._head) : found.end()])
                self._begin_call(found[1], parts)
                return head[found.end() :] + text[len(taken) :]
            self._head = head if len(head) < _LONGEST_HEAD else None
        self._keep(taken)
        self._searched = (before + taken)[1 - len(CALL_END) :]
        if end >= 0:
            self._end_call(parts)
        return text[len(taken) :]

    def _begin_call(self, name: str, parts: list[Part]) -> None:
        """Tell a call whose head has been read, and is kept."""
        self._drop_kept()
        parts.append(CallPart(self._calls, self._make_id(), name))
        self._calls += 1
        self._state = _State.ARGUMENTS
        self._object = _ObjectEnd()

    def _end_call(self, parts: list[Part]) -> None:
        """Look at a whole call that is written in another way than usual, or at what is none."""
        self._state = _State.TEXT
        kept = "".join(self._kept)
        _, _, body = kept.partition(CALL)
        try:
            written = msgspec.json.decode(body.removesuffix(CALL_END), type=_Written)
        except (msgspec.DecodeError, RecursionError):
            self._tell_kept(parts)
            return
        arguments = bytes(written.arguments).decode().strip()
        if written.name not in self._functions or not arguments.startswith("{"):
            self._tell_kept(parts)
            return
        self._drop_kept()
        self._drops_space = True
        parts.append(CallPart(self._calls, self._make_id(), written.name))
        parts.append(ArgumentsPart(self._calls, arguments))
        self._calls += 1

    def _read_arguments(self, text: str, parts: list[Part]) -> str:
        end = self._object.find(text)
        taken = text if end is None else text[:end]
        parts.append(ArgumentsPart(self._calls - 1, taken))
        self.at += len(taken)
        if end is not None:
            self._state = _State.TAIL
            self._tail = 0
        return text[len(taken) :]

    def _read_tail(self, text: str) -> str:
        for index, character in enumerate(text):
            if character == _TAIL[self._tail]:
                self._tail += 1
                if self._tail < len(_TAIL):
                    continue
                self._keep(text[: index + 1])
                self._drop_kept()
                self._state = _State.TEXT
                self._drops_space = True
                return text[index + 1 :]
            if character not in SPACE or self._tail > 1:  # text, after all
                self._state = _State.TEXT
                kept = "".join(self._kept)
                self._kept, self._kept_size = [], 0
                return kept + text
        self._keep(text)
        return ""

    # What is kept back stands at ``at`` in the reply

    def _keep(self, text: str) -> None:
        if text:
            self._kept.append(text)
            self._kept_size += len(text)

    def _tell_kept(self, parts: list[Part]) -> None:
        if kept := "".join(self._kept):
            parts.append(ContentPart(kept, begin=self.at))
        self._drop_kept()

    def _drop_kept(self) -> None:
        self.at += self._kept_size
        self._kept, self._kept_size = [], 0


class _ObjectEnd:
    """Finds the end of a JSON object in pieces of text, the first of which begins with its brace.

    It goes by braces and strings alone, and so gets over whatever else is wrong in it.
    """

    _TELLING = re.compile(r'[{}"\\]')

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False

    def find(self, text: str) -> int | None:
        """Where ``text`` ends the object, if it does."""
        at = 0
        while at < len(text):
            if self._is_escaped:
                self._is_escaped = False
                at += 1
                continue
            found = self._TELLING.search(text, at)
            if found is None:
                return None
            at = found.end()
            if self._is_end(found[0]):
                return at
        return None

    def _is_end(self, sign: str) -> bool:
        if self._in_string:
            self._is_escaped = sign == "\\"
            self._in_string = sign != '"'
            return False
        if sign == '"':
            self._in_string = True
        elif sign in "{}":
            self._depth += 1 if sign == "{" else -1
        return self._depth == 0
