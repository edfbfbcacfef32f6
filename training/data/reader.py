"""Read raw dialogue files record by record, whatever their layout; memory stays bounded.

Knows how records lie in a file and says exactly where it is wrong; what a record says is for
``training.data.records``. Knows nothing of cleaning.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple, NoReturn, Self, cast

from training.data.dialogue import RawDialogue
from training.data.records import dialogue_of, parse_dialogue
from training.data.stream import JsonText, Malformed
from training.data.table import Header, header_of, rows
from training.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
HEAD_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 26

# The keys of a file that brings its own splits, and what we call them.
SPLIT_KEYS = {"train": "train", "valid": "validation", "validation": "validation", "test": "test"}

# How a line of JSON goes on after its bracket; a tab-separated line may begin with one too, as in
# Weibo's `[哈哈]`.
_JSON_STARTS = tuple(first + then for first in "[{" for then in '"[{]} \tntf-0123456789')

_FIRST_KEY = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"\s*:')


class Layout(Enum):
    """What a file holds, by its first characters."""

    ARRAY = "a JSON array of dialogues"
    SPLITS = "a JSON object of splits"
    LINES = "one JSON dialogue a line"
    TABS = "one dialogue a line, its utterances parted by tabs"
    TABLE = "a table of questions and answers, its columns named in the first row"


class Record(NamedTuple):
    """One dialogue with its place; ``number`` counts from 1 (the line where there are lines)."""

    number: int
    dialogue: RawDialogue
    split: str | None


class DialogueReader:
    """The dialogues of one file, plain or gzip. Use it as a context manager and iterate it once.

    Accepted are a JSON array of records, JSON Lines of records, an object ``{"train": […],
    "valid": […], "test": […]}`` of such arrays, text with one dialogue a line and a tab between
    utterances, and tables of questions and answers (:mod:`training.data.table`). A record is
    ``["…", "…"]``, ``{"dialog": ["…", "…"]}``, or an object with ``messages`` (OpenAI),
    ``conversations`` (ShareGPT) or a question with its answer (Alpaca).

    Raises:
        DataError: anything that cannot be read, naming the file, the record and the fault.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._record = 0
        self._skip = 0

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

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._raw.close()

    @property
    def bytes_read(self) -> int:
        """How far into the file on disk (compressed bytes of a gzip file)."""
        return self._raw.tell()

    def __iter__(self) -> Iterator[Record]:
        return self.records()

    def records(self, skip: int = 0) -> Iterator[Record]:
        """All records but the first ``skip``, which are stepped over as quickly as can be."""
        self._skip = skip
        try:
            yield from self._records()
        except Malformed as error:
            self._refuse(str(error))
        except UnicodeDecodeError as error:
            self._refuse(
                f"not valid UTF-8 (byte 0x{error.object[error.start]:02x}); a file in another "
                "encoding has to be converted first, for example with `iconv -f GB18030 -t UTF-8`"
            )
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
        if layout in (Layout.LINES, Layout.TABS):
            yield from self._lines(layout)
            return
        if layout is Layout.TABLE:
            yield from self._table()
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
        first = self._stream.read(HEAD_BYTES)
        self._stream.seek(0)
        if first.startswith(UTF16_BOMS):
            self._refuse("the file is UTF-16; convert it first: `iconv -f UTF-16 -t UTF-8`")
        head = first.removeprefix(BOM).decode("utf-8", "replace").lstrip()
        if not head:
            self._refuse("the file is empty")
        first_line = head.partition("\n")[0]
        if not first_line.startswith(_JSON_STARTS):
            if header_of(first_line.rstrip("\r")):
                return Layout.TABLE
            if "\t" in first_line:
                return Layout.TABS
        if head[0] == "[":
            inside = head[1:].lstrip()
            # a list of strings is one dialogue, so its file has one a line; [] may be either
            lines = inside[:1] == '"' or (inside[:1] == "]" and bool(inside[1:].strip()))
            return Layout.LINES if lines else Layout.ARRAY
        if head[0] == "{":
            key = _FIRST_KEY.match(head)
            return Layout.SPLITS if key and key[1] in SPLIT_KEYS else Layout.LINES
        return self._refuse(
            f"neither JSON nor JSON Lines nor tab-separated: it begins with {head[:12]!r}; of a "
            "table (CSV), the first row has to name a column `question` and one `answer`"
        )

    def _table(self) -> Iterator[Record]:
        texts = self._texts()
        header = cast("Header", header_of(next(text for text in texts if text.strip()).strip()))
        number = self._record + 1  # of the line where a row begins
        try:
            for row in rows(texts, header):
                if row and not self._stepped_over():
                    yield Record(number, dialogue_of(row), None)
                number = self._record + 1
        except Malformed:
            self._record = number
            raise

    def _texts(self) -> Iterator[str]:
        while line := self._next_line():
            yield line.decode("utf-8")

    def _lines(self, layout: Layout) -> Iterator[Record]:
        read = _utterances_by_tabs if layout is Layout.TABS else parse_dialogue
        while line := self._next_line():
            if not line.startswith((b"[", b"{")) and not line.decode("utf-8").strip():
                continue
            if self._stepped_over():
                continue
            yield Record(self._record, read(line), None)

    def _stepped_over(self) -> bool:
        """Whether the present record is one of those to skip."""
        self._skip -= 1
        return self._skip >= 0

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
            value = text.value()
            if not self._stepped_over():
                yield Record(self._record, dialogue_of(value), split)
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


def _utterances_by_tabs(line: bytes) -> RawDialogue:
    return RawDialogue(line.decode("utf-8").strip().split("\t"))
