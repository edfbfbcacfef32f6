"""Lists of words: what an entry finds, and that the bundled lists do what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.words import letters_of, read_words
from training.errors import DataError


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own.txt"
    path.write_text("\ufeff# mine\n\n坏蛋\nsb\n=转发微博\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("你这个坏蛋！", True),
        ("坏 * 蛋", True),
        ("坏的蛋", False),
        ("你 SB 啊", True),
        ("ｓｂ", True),
        ("usb 线", False),
        ("转发微博。", True),
        ("你转发微博了吗", False),
        ("", False),
    ],
)
def test_an_entry_is_found_anywhere_or_as_the_whole(own: str, text: str, is_found: bool) -> None:
    """Punctuation, spaces, case and width do not count; Latin entries are words of their own."""
    assert read_words(own).is_in(text) is is_found


def test_a_list_of_whole_texts_forgives_repetition(tmp_path: Path) -> None:
    """哈 stands for any laughter, and never for a longer text with it."""
    path = tmp_path / "whole.txt"
    path.write_text("哈\n谢谢\n!\n")
    words = read_words(str(path), whole=True)
    assert [words.is_all_of(letters_of(text)) for text in ("哈哈哈~", "谢谢谢！", "哈哈谢谢")] == [
        True,
        True,
        False,
    ]
    assert not words.is_all_of("")


def test_a_list_is_told_by_its_content(own: str, tmp_path: Path) -> None:
    """Equal files have an equal hash, wherever they lie."""
    other = tmp_path / "other.txt"
    other.write_bytes(Path(own).read_bytes())
    assert read_words(own).sha256 == read_words(str(other)).sha256
    other.write_text("坏蛋")
    assert read_words(own).sha256 != read_words(str(other)).sha256


def test_a_missing_or_broken_list_is_a_data_error(tmp_path: Path) -> None:
    """The message lists the bundled ones."""
    with pytest.raises(DataError, match=r"No list of words 'abus'.*abuse, generic, notices"):
        read_words("abus")
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"bad\.txt: not valid UTF-8"):
        read_words(str(bad))
    with pytest.raises(DataError, match="cannot be read"):
        read_words(str(tmp_path))


HARMLESS = [
    "今天天气不错",
    "我去操场跑步",
    "二笔画的",
    "杂志看完了",
    "这只猫好傻",
    "用USB线",
    "真妈妈的味道",
]


def test_the_bundled_lists_find_what_they_are_for() -> None:
    """And leave everyday text alone."""
    abuse, notices = read_words("abuse"), read_words("notices")
    generic = read_words("generic", whole=True)
    assert all(abuse.is_in(text) for text in ("你是傻*逼吧", "滚犊子！", "WTF，SB"))
    assert not any(words.is_in(text) for words in (abuse, notices) for text in HARMLESS)
    assert notices.is_in("系统已将您的回复自动屏蔽，请理解")
    assert all(
        generic.is_all_of(letters_of(text)) for text in ("哈哈哈", "好的～", "晚安😴", "OK!")
    )
    assert not any(generic.is_all_of(letters_of(text)) for text in HARMLESS)
