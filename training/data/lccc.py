"""Read raw dialogue files record by record, whatever their format; memory stays bounded.

Knows LCCC's formats and says exactly where a file is wrong. Knows nothing of cleaning.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self, cast

from training.data.stream import JsonText, Malformed, json_kind, parse
from training.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
HEAD_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 26

# The keys of a file that brings its own splits, and what we call them.
SPLIT_KEYS = {"train": "train", "valid": "validation", "validation": "validation", "test": "test"}

_FIRST_KEY = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"\s*:')


class Layout(Enum):
    """What a file holds, by its first characters."""

    ARRAY = "a JSON array of dialogues"
    SPLITS = "a JSON object of splits"
    LINES = "one dialogue a line"


class Record(NamedTuple):
    """One dialogue as it lies in the file; ``number`` counts from 1 (the line in JSONL)."""

    number: int
    utterances: list[str]
    split: str | None


class DialogueReader:
    """The dialogues of one file, plain or gzip. Use it as a context manager and iterate it once.

    Accepted: a JSON array whose items are ``["…", "…"]`` or ``{"dialog": ["…", "…"]}``; JSON Lines
    of the same items; an object ``{"train": […], "valid": […], "test": […]}`` of such arrays.

    Raises:
        DataError: anything that cannot be read, naming the file, the record and the fault.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._record = 0

    def __enter__(self) -> Self:
        try:
            self._raw = self.path.open("rb")
        except OSError as error:
            raise DataError(f"cannot be opened: {error.strerror}", file=self.path) from error
        try:
            compressed = self._raw.read(2) == GZIP_MAGIC
            self._raw.seek(0)
            # GzipFile reads like any buffered file; only its declared type differs
            plain = gzip.GzipFile(fileobj=self._raw) if compressed else self._raw
            self._stream = cast("io.BufferedReader", plain)
        except BaseException:
            self._raw.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._raw.close()

    @property
    def bytes_read(self) -> int:
        """How far into the file on disk (compressed bytes of a gzip file)."""
        return self._raw.tell()

    def __iter__(self) -> Iterator[Record]:
        try:
            yield from self._records()
        except Malformed as error:
            self._refuse(str(error))
        except UnicodeDecodeError as error:
            self._refuse(f"not valid UTF-8 (byte 0x{error.object[error.start]:02x})")
        except EOFError:
            self._refuse("the gzip stream ends early; the file is truncated")
        except (gzip.BadGzipFile, zlib.error) as error:
            self._refuse(f"the gzip stream is damaged ({error})")
        except OSError as error:
            self._refuse(f"cannot be read: {error.strerror}")

    def _refuse(self, message: str) -> NoReturn:
        raise DataError(message, file=self.path, record=self._record or None)

    def _records(self) -> Iterator[Record]:
        layout = self._layout()
        if layout is Layout.LINES:
            yield from self._lines()
            return
        text = JsonText(self._stream)
        if layout is Layout.ARRAY:
            yield from self._array(text, None)
        else:
            yield from self._splits(text)
        self._record = 0
        if text.next_character():
            raise Malformed("more text follows the end of the JSON value")

    def _layout(self) -> Layout:
        """Look at the first characters and go back to the start."""
        head = self._stream.read(HEAD_BYTES).removeprefix(BOM).decode("utf-8", "replace").lstrip()
        self._stream.seek(0)
        if not head:
            self._refuse("the file is empty")
        if head[0] == "[":
            inside = head[1:].lstrip()
            # a list of strings is one dialogue, so its file has one a line; [] may be either
            lines = inside[:1] == '"' or (inside[:1] == "]" and bool(inside[1:].strip()))
            return Layout.LINES if lines else Layout.ARRAY
        if head[0] == "{":
            key = _FIRST_KEY.match(head)
            return Layout.SPLITS if key and key[1] in SPLIT_KEYS else Layout.LINES
        return self._refuse(
            f"neither JSON nor JSON Lines: it begins with {head[:12]!r}, expected '[' or '{{'"
        )

    def _lines(self) -> Iterator[Record]:
        while line := self._next_line():
            if text := line.decode("utf-8").strip():
                yield Record(self._record, utterances_of(parse(text)), None)

    def _next_line(self) -> bytes:
        self._record += 1
        line = self._stream.readline(MAX_LINE_BYTES + 1)
        if len(line) > MAX_LINE_BYTES:
            raise Malformed(f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")
        return line.removeprefix(BOM) if self._record == 1 else line

    def _array(self, text: JsonText, split: str | None) -> Iterator[Record]:
        self._record = 1
        text.expect("[")
        closed = text.take("]")
        while not closed:
            yield Record(self._record, utterances_of(text.value()), split)
            closed = text.expect_either(",", "]") == "]"
            self._record += 1

    def _splits(self, text: JsonText) -> Iterator[Record]:
        text.expect("{")
        seen: set[str] = set()
        closed = False
        while not closed:
            key = text.value()
            split = SPLIT_KEYS.get(key) if isinstance(key, str) else None
            if split is None or split in seen:
                self._record = 0
                raise Malformed(
                    f"the key {key!r} is {'there twice' if split else 'no split'}; "
                    f"a file with splits has the keys train, valid, test"
                )
            seen.add(split)
            text.expect(":")
            try:
                yield from self._array(text, split)
            except Malformed as error:
                raise Malformed(f'{error} (in "{key}")') from error
            closed = text.expect_either(",", "}") == "}"


def utterances_of(value: Any) -> list[str]:
    """The utterances of one decoded record.

    Raises:
        Malformed: it is neither a list of strings nor an object with one under ``dialog``.
    """
    if isinstance(value, dict):
        if "dialog" not in value:
            raise Malformed('the object has no key "dialog"')
        value = value["dialog"]
    if not isinstance(value, list):
        raise Malformed(f"expected a list of utterances, found {json_kind(value)}")
    for index, utterance in enumerate(value, start=1):
        if not isinstance(utterance, str):
            raise Malformed(f"utterance {index} is {json_kind(utterance)}, not a string")
    return value
