"""JSON out of a byte stream, value by value, through a sliding text buffer.

A 900 MB array is read in the memory of its largest item. Knows nothing of dialogues.
"""

from __future__ import annotations

import codecs
import io
import json
from typing import Any

CHUNK_BYTES = 1 << 18
MAX_VALUE_CHARACTERS = 1 << 24

# How far before the end of the buffer a fault may lie and still be only the cut: a cut literal,
# number or escape (`fals`, `-1.2e`, `\ud83d\ud`) is reported at most this many characters early.
CUT_MARGIN = 16

_SPACE = " \t\n\r"
_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}

# any number becomes a float: none is wanted, and int() refuses more than 4300 digits
_decoder = json.JSONDecoder(parse_int=float)


class Malformed(ValueError):
    """The text is not what it should be; the message says what is wrong."""


def json_kind(value: Any) -> str:
    """What JSON calls the type of a decoded value."""
    return _KINDS.get(type(value), "a number")


def parse(text: str) -> Any:
    """The one JSON value in ``text``.

    Raises:
        Malformed: it is no JSON, naming the column.
    """
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise Malformed(f"invalid JSON at column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise Malformed("invalid JSON: nested too deeply") from None


class JsonText:
    """The decoded text of a stream with a cursor; reads on when a value is cut by the buffer.

    What was read before a fault in the stream is still handed out, so a fault is reported at
    the value that it hits and not at the start of its block.
    """

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._buffer = ""
        self._at = 0
        self._fault: UnicodeDecodeError | None = None
        self._ended = False

    def next_character(self) -> str:
        """The next character that is no white space, left in place; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE:
                    return self._buffer[self._at]
                self._at += 1
            if not self._read_on():
                return ""

    def take(self, character: str) -> bool:
        """Step over ``character`` if it is next."""
        found = self.next_character() == character
        self._at += found
        return found

    def expect(self, character: str) -> None:
        if not self.take(character):
            raise self._unexpected(f"'{character}'")

    def expect_either(self, first: str, second: str) -> str:
        found = self.next_character()
        if found not in (first, second):
            raise self._unexpected(f"'{first}' or '{second}'")
        self._at += 1
        return found

    def value(self) -> Any:
        """Decode the next value.

        Raises:
            Malformed: it is no JSON, is cut short by the end of the file, or is far too long.
        """
        if not self.next_character():
            raise self._unexpected("a value")
        while True:
            try:
                value, end = _decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if not (self._is_cut(error, CUT_MARGIN) and self._read_on()):
                    raise self._invalid(error) from None
            except RecursionError:
                raise Malformed("invalid JSON: nested too deeply") from None
            else:
                # the beginning of a number is a number too
                may_go_on = isinstance(value, float) and end > len(self._buffer) - CUT_MARGIN
                if not (may_go_on and self._read_on()):
                    self._at = end
                    return value

    def _unexpected(self, wanted: str) -> Malformed:
        found = self.next_character()
        what = f"found {found!r}" if found else "the file ends"
        return Malformed(f"invalid JSON: expected {wanted}, but {what}")

    def _invalid(self, error: json.JSONDecodeError) -> Malformed:
        if self._is_cut(error, margin=0):
            return Malformed("invalid JSON: the file ends inside this record")
        column = error.pos - self._at + 1
        return Malformed(f"invalid JSON at column {column} of the record: {error.msg}")

    def _is_cut(self, error: json.JSONDecodeError, margin: int) -> bool:
        """Whether more text could heal the error, which then lies at the end of the buffer."""
        return error.msg.startswith("Unterminated string") or (
            error.pos >= len(self._buffer.rstrip(_SPACE)) - margin
        )

    def _read_on(self) -> bool:
        """Drop what was consumed and add a block; false at the end of the stream."""
        if self._fault is not None:
            raise self._fault
        if self._ended:
            return False
        if len(self._buffer) - self._at > MAX_VALUE_CHARACTERS:
            millions = MAX_VALUE_CHARACTERS // 1_000_000
            raise Malformed(f"the record is longer than {millions} million characters")
        if text := self._next_text():
            self._buffer = self._buffer[self._at :] + text
            self._at = 0
        return bool(text) or not self._ended or self._fault is not None

    def _next_text(self) -> str:
        # read1 hands out what a truncated gzip stream still holds; read would lose it
        block = self._stream.read1(CHUNK_BYTES)
        self._ended = not block
        try:
            return self._decode.decode(block, final=self._ended)
        except UnicodeDecodeError as fault:
            self._fault = fault
            return fault.object[: fault.start].decode("utf-8").removeprefix("\ufeff")
