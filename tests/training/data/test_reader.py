"""Reading raw files: every format, every way one can be broken, in little memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data import stream
from training.data.dialogue import RawDialogue
from training.data.reader import DialogueReader, Record
from training.errors import DataError

DIALOGUES = [["吃 了 吗", "吃 了"], ["晚安"], [], ["a", "\u2028", 'q"\\']]


def as_array(dialogues: Any) -> str:
    return json.dumps(dialogues, ensure_ascii=False)


def as_indented(dialogues: Any) -> str:
    return json.dumps(dialogues, indent=1) + "\n\n"


def as_objects(dialogues: Any) -> str:
    return json.dumps([{"dialog": dialogue, "id": 1} for dialogue in dialogues])


def as_lines(dialogues: Any) -> str:
    return "\n".join(json.dumps(dialogue, ensure_ascii=False) for dialogue in dialogues)


def as_object_lines(dialogues: Any) -> str:
    return as_lines([{"dialog": dialogue} for dialogue in dialogues]) + "\n"


FORMATS = [as_array, as_indented, as_objects, as_lines, as_object_lines]


def read(path: Path) -> list[Record]:
    with DialogueReader(path) as reader:
        return list(reader)


def written(tmp_path: Path, content: str | bytes, name: str = "raw.json") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf", b" \n"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("layout", FORMATS)
def test_every_format_gives_the_same_dialogues_whatever_the_file_is_called(
    tmp_path: Path, layout: Callable[[Any], str], compress: Callable[[bytes], bytes], prefix: bytes
) -> None:
    """Content decides the format: plain or gzip, with or without a byte order mark."""
    path = written(tmp_path, compress(prefix + layout(DIALOGUES).encode()), "raw.txt")
    assert [record.dialogue.utterances for record in read(path)] == DIALOGUES


def test_a_file_of_splits_keeps_them(tmp_path: Path) -> None:
    """Records of {"train", "valid", "test"} carry their split, in file order, numbered in each."""
    content = {"valid": [["c", "d"]], "train": DIALOGUES, "test": []}
    records = read(written(tmp_path, as_indented(content)))
    assert records[0] == Record(1, RawDialogue(["c", "d"]), "validation")
    assert records[1:] == [
        Record(n, RawDialogue(d), "train") for n, d in enumerate(DIALOGUES, start=1)
    ]


def test_records_of_json_lines_are_numbered_by_line(tmp_path: Path) -> None:
    """Blank lines are skipped but counted, so the number is the one an editor shows."""
    records = read(written(tmp_path, '\n["a","b"]\r\n\n["c","d"]'))
    assert [(record.number, record.dialogue.utterances) for record in records] == [
        (2, ["a", "b"]),
        (4, ["c", "d"]),
    ]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_tab_separated_text_has_one_dialogue_a_line(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    """As CDial-GPT trains from; a line may begin with a bracket, as Weibo's emoji do."""
    for first in ("你 好\t在 吗\t在", "[哈哈]\t在 吗", "{微笑}\t在 吗", "你\r好\t在"):
        path = written(tmp_path, compress(f"{first}\r\n\n早\t\t早 安\n".encode()))
        assert [(record.number, record.dialogue.utterances) for record in read(path)] == [
            (1, first.split("\t")),
            (3, ["早", "", "早 安"]),
        ]


TABLE = (
    "\ufeff编号,问题,回答,备注\n",
    '1,你好,"你好，\n世界",\n',
    ",,,\n",
    '3,"他说""早""",早\n',
)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_table_has_one_question_and_answer_a_row(
    tmp_path: Path, compress: Callable[[bytes], bytes], delimiter: str, line_end: str
) -> None:
    """As spreadsheets save it; other columns are left out, and rows are numbered by their line."""
    table = "".join(TABLE).replace(",", delimiter).replace("\n", line_end)
    records = read(written(tmp_path, compress(table.encode()), "table.csv"))

    assert [(record.number, *record.dialogue.utterances) for record in records] == [
        (2, "你好", f"你好，{line_end}世界"),
        (5, '他说"早"', "早"),
    ]
    assert all(record.dialogue.roles == ["user", "assistant"] for record in records)


def test_a_table_has_system_prompts_and_more_of_a_question(tmp_path: Path) -> None:
    """Columns are called as Alpaca's keys are, however they are written."""
    (record,) = read(written(tmp_path, "Instruction, input ,output,SYSTEM\n答,在吗,在,猫\n"))

    assert record.dialogue == RawDialogue(["答\n在吗", "在"], ["user", "assistant"], "猫")


def test_tabs_in_json_are_white_space(tmp_path: Path) -> None:
    """Also in the first line, which then is no tab-separated text."""
    path = written(tmp_path, '[\t["a",\t"b"],\n\t["c", "d"]]')
    assert [record.dialogue.utterances for record in read(path)] == [["a", "b"], ["c", "d"]]


SPLITS = {"train": [["a", "b"], ["c", "d"]], "test": [["e", "f"]]}


@pytest.mark.parametrize(
    "content",
    [
        as_array([["a", "b"], ["c", "d"], ["e", "f"]]),
        '\n["a","b"]\n\n["c","d"]\n["e","f"]',
        "a\tb\n \nc\td\ne\tf",
        json.dumps(SPLITS),
        "question,answer\na,b\n\nc,d\ne,f",
    ],
    ids=["array", "lines", "tabs", "splits", "table"],
)
@pytest.mark.parametrize("skip", range(5))
def test_records_can_be_skipped(tmp_path: Path, content: str, skip: int) -> None:
    """The rest is numbered as if all had been read."""
    path = written(tmp_path, content)
    with DialogueReader(path) as reader:
        assert list(reader.records(skip=skip)) == read(path)[skip:]


def test_a_list_of_no_dialogues_is_empty(tmp_path: Path) -> None:
    """``[]`` is a valid file without dialogues."""
    assert read(written(tmp_path, " [ ] ")) == []


GOOD = '["a","b"]'

BROKEN = {
    "empty file": (b"", None, "the file is empty"),
    "white space": (b" \n \t", None, "the file is empty"),
    "other text": (
        "你好 吃了吗".encode(),
        None,
        "neither JSON nor JSON Lines nor tab-separated: it begins with '你好",
    ),
    "a number in an array": (
        b"[" + GOOD.encode() + b", 7]",
        2,
        "expected a list of utterances, found a number",
    ),
    "null in an array": (b"[null]", 1, "found null"),
    "a string in an array": (b'[["a","b"], "c"]', 2, "found a string"),
    "an utterance is a number": (
        b'[["a","b"],["a", 3]]',
        2,
        "utterance 2 is a number, not a string",
    ),
    "an utterance is a list": (
        b'[["a","b"],[["a"], "b"]]',
        2,
        "utterance 1 is a list, not a string",
    ),
    "an utterance is a boolean": (b'["a","b"]\n["a", true]', 2, "utterance 2 is a boolean, not a"),
    "a huge number": (b'[["a", ' + b"9" * 5000 + b"]]", 1, "utterance 2 is a number"),
    "an object without dialog": (b'[{"text": []}]', 1, 'the object has no key "dialog"'),
    "a line without dialog": (
        b'{"dialog": ["a"]}\n{"text": []}',
        2,
        'the object has no key "dialog"',
    ),
    "dialog is a string": (b'{"dialog": "a"}', 1, "expected a list of utterances, found a string"),
    "a line of bad JSON": (
        b'["a","b"]\n["a" "b"]',
        2,
        "invalid JSON at column 6: Expecting ',' delimiter",
    ),
    "two values in a line": (b'["a","b"] ["c"]', 1, "invalid JSON at column 11: Extra data"),
    "a deep line": (b'["a"]\n' + b"[" * 100_000, 2, "nested too deeply"),
    "a deep array": (b"[[" + b"[" * 100_000, 1, "nested too deeply"),
    "bad JSON in an array": (b'[["a","b"],["a" "b"]]', 2, "invalid JSON at column 6 of the record"),
    "a control character": (b'[["a\nb"]]' + b" " * 99, 1, "Invalid control character"),
    "no comma": (b'[["a","b"] ["c","d"]]', 1, "expected ',' or ']', but found '['"),
    "a comma too many": (b'[["a","b"],]' + b" " * 99, 2, "invalid JSON at column 1 of the record"),
    "cut in a record": (b'[["a","b"],["c', 2, "the file ends inside this record"),
    "cut after a record": (b'[["a","b"]', 1, "expected ',' or ']', but the file ends"),
    "cut after a comma": (b'[["a","b"],', 2, "expected a value, but the file ends"),
    "text after the array": (b'[["a","b"]] x', None, "more text follows the end of the JSON value"),
    "an unknown split": (b'{"train": [["a","b"]], "dev": []}', None, "the key 'dev' is no split"),
    "a split twice": (b'{"valid": [], "validation": []}', None, "'validation' is there twice"),
    "a split that is no list": (b'{"train": 5}', 1, "expected '[', but found '5' (in \"train\")"),
    "a bad record in a split": (b'{"train": [["a"]], "test": [["a"], [0]]}', 2, '(in "test")'),
    "bad UTF-8 in a line": (b'["a","b"]\n["\xff"]', 2, "not valid UTF-8 (byte 0xff)"),
    "bad UTF-8 in an array": (b'[["a","b"],["c","d"],["\xff"]]', 3, "not valid UTF-8 (byte 0xff)"),
    "GB18030": ('["你好","在"]\n'.encode("gb18030"), 1, "`iconv -f GB18030 -t UTF-8`"),
    "UTF-16": ('["你好","在"]\n'.encode("utf-16"), None, "the file is UTF-16; convert it first"),
    "a table of unknown columns": (b"text,label\na,b\n", None, "has to name a column `question`"),
    "a table with one name twice": (
        "问题,回答,question\n".encode(),
        None,
        "two columns have one name",
    ),
    "a row with too many cells": (
        b"question,answer\na,b\nc,d,e\n",
        3,
        "the row has 3 cells, and the first row names 2",
    ),
    "a cell without an end": (b'question,answer\na,b\nc,"d\ne,f\n', 3, "unexpected end of data"),
    "UTF-8 cut at the end": (b'[["a","b"],["\xe5\x90', 2, "not valid UTF-8 (byte 0xe5)"),
}


@pytest.mark.parametrize(("content", "record", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_with_file_record_and_fault(
    tmp_path: Path, content: bytes, record: int | None, message: str
) -> None:
    """The error names the file, the record where there is one, and what is wrong."""
    path = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.record == record
    assert record is None or f"record {record}: " in str(caught.value)


@pytest.mark.parametrize("layout", [as_array, as_lines])
def test_a_truncated_gzip_file_is_refused(tmp_path: Path, layout: Callable[[Any], str]) -> None:
    """What is missing is said, after all records that can still be read."""
    content = layout([["早 安", str(number)] for number in range(50_000)]).encode()
    truncated = gzip.compress(content)[:-2000]
    readable = zlib.decompressobj(wbits=31).decompress(truncated).count(b"]")
    path = written(tmp_path, truncated)
    records: list[int] = []
    with (
        DialogueReader(path) as reader,
        pytest.raises(DataError, match="the gzip stream ends early") as caught,
    ):
        records.extend(record.number for record in reader)
    assert 0 < readable < 50_000
    assert readable - 1 <= len(records) <= readable
    assert caught.value.record == len(records) + 1


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    """A wrong checksum is an error even though the JSON in it can be read."""
    content = bytearray(gzip.compress(as_array(DIALOGUES).encode()))
    content[-6] ^= 0xFF
    with pytest.raises(DataError, match="the gzip stream is damaged"):
        read(written(tmp_path, bytes(content)))


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    """The operating system's reason is passed on."""
    with pytest.raises(DataError, match=r"nowhere\.json: cannot be opened: No such file"):
        read(tmp_path / "nowhere.json")


def test_a_large_array_is_read_in_little_memory(tmp_path: Path) -> None:
    """The peak stays far below the size of the file."""
    path = written(tmp_path, as_array([["火锅" * 20, str(number)] for number in range(60_000)]))
    size = path.stat().st_size
    assert size > 8_000_000
    tracemalloc.start()
    with DialogueReader(path) as reader:
        count = sum(1 for _ in reader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60_000
    assert peak < size / 3


def test_an_early_fault_in_a_large_array_is_found_early(tmp_path: Path) -> None:
    """The reader does not take the whole file into memory to be sure that it is wrong."""
    good = ",".join([GOOD] * 400_000)
    path = written(tmp_path, f'[["a","b"],["a" "b"],{good}]')
    with DialogueReader(path) as reader:
        with pytest.raises(DataError) as caught:
            list(reader)
        assert reader.bytes_read < path.stat().st_size / 4
    assert caught.value.record == 2


def test_an_endless_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record over the limit stops the reader, whatever its format."""
    monkeypatch.setattr(stream, "CHUNK_BYTES", 100)
    monkeypatch.setattr(stream, "MAX_VALUE_CHARACTERS", 1000)
    path = written(tmp_path, as_array([["a"], ["b" * 5000]]))
    with pytest.raises(DataError, match="record 2: the record is longer than"):
        read(path)


def test_bytes_read_grows_to_the_size_of_the_file(tmp_path: Path) -> None:
    """Progress is measured on the file as it lies on the disk, also when compressed."""
    path = written(tmp_path, gzip.compress(as_lines(DIALOGUES * 1000).encode()))
    with DialogueReader(path) as reader:
        list(reader)
        assert reader.bytes_read == path.stat().st_size


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    dialogues=st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=4)),
    chunk=st.integers(1, 40),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_block_borders_never_change_what_is_read(
    tmp_path: Path, dialogues: list[list[str]], chunk: int, ascii_only: bool, indent: int | None
) -> None:
    """A value cut anywhere by the buffer (in an escape, a character, a word) is read whole."""
    path = written(
        tmp_path, json.dumps([["a"], *dialogues], ensure_ascii=ascii_only, indent=indent)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CHUNK_BYTES", chunk)
        assert [record.dialogue.utterances for record in read(path)] == [["a"], *dialogues]


@pytest.mark.parametrize("word", ["true", "null", "-12.5e-7", "12345678901234567890"])
@pytest.mark.parametrize("chunk", range(1, 12))
def test_a_bare_word_cut_by_a_block_border_is_named_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, chunk: int
) -> None:
    """Cut literals and numbers are read on to their end before they are judged."""
    monkeypatch.setattr(stream, "CHUNK_BYTES", chunk)
    with pytest.raises(DataError, match=r"found (a boolean|null|a number)$"):
        read(written(tmp_path, f'[["a"], {word} ]'))
