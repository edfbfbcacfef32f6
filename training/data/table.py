"""Tables of questions and answers, as spreadsheets save them: CSV, or the same with tabs.

The first row names the columns. What is quoted may have line ends in it (RFC 4180).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from training.data.records import PAIRS
from training.data.stream import Malformed

DELIMITERS = ("\t", ",")

# What columns are called, and the keys of a record that they stand for.
_COLUMNS = {name: name for pair in PAIRS for name in (*pair, "input", "system")} | {
    "问题": "question",
    "提问": "question",
    "问": "question",
    "回答": "answer",
    "答案": "answer",
    "答": "answer",
    "系统提示词": "system",
}


class Header(NamedTuple):
    """How the cells of a row are parted, and the key that each is for; none: it is left out."""

    delimiter: str
    keys: tuple[str | None, ...]


def header_of(line: str) -> Header | None:
    """The header in the first line of a file; ``None`` where it names no question and answer.

    Raises:
        Malformed: two columns have one name.
    """
    for delimiter in DELIMITERS:
        try:
            cells = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:  # a return in the midst of it, which no table has there
            return None
        keys = tuple(_COLUMNS.get(cell.strip().lower()) for cell in cells)
        if any(set(pair) <= set(keys) for pair in PAIRS):
            named = [key for key in keys if key is not None]
            if len(set(named)) < len(named):
                raise Malformed("two columns have one name")
            return Header(delimiter, keys)
    return None


def rows(lines: Iterator[str], header: Header) -> Iterator[dict[str, str] | None]:
    """The records in the ``lines`` below the header; ``None`` for a row of nothing.

    Raises:
        Malformed: a cell has no end, or a row more cells than there are columns.
    """
    table = csv.reader(lines, delimiter=header.delimiter, strict=True)
    try:
        for cells in table:
            yield _record(cells, header.keys) if any(cells) else None
    except csv.Error as error:
        raise Malformed(f"the row cannot be read: {error}") from error


def _record(cells: Sequence[str], keys: Sequence[str | None]) -> dict[str, str]:
    if any(cells[len(keys) :]):
        raise Malformed(f"the row has {len(cells)} cells, and the first row names {len(keys)}")
    return {key: cell for key, cell in zip(keys, cells, strict=False) if key is not None}
