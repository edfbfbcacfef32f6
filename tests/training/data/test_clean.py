"""Cleaning: what each rule does to text, what it must never do, and what is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.clean import (
    RULES,
    RULES_VERSION,
    Cleaner,
    join_spaced,
    looks_pre_spaced,
    remove_control,
    trim,
)
from training.data.dialogue import RawDialogue


def cleaned_by(cleaner: Cleaner, utterances: list[str], *, pre_spaced: bool) -> list[str] | None:
    dialogue = cleaner.clean(RawDialogue(utterances), pre_spaced=pre_spaced)
    return dialogue and dialogue.utterances


# Text in which all that the rules distinguish is likely, and any other text.
TEXT = st.text(st.sampled_from(" \t\n\u3000aZé7我们，。!'（Ａ한\u200b\x00")) | st.text()

SPACED = {
    "characters": ("火 锅 我 在 重 庆 吃", "火锅我在重庆吃"),
    "words": ("火锅 我 在 重庆 成都", "火锅我在重庆成都"),
    "Latin by letters": ("R a p", "Rap"),
    "letters and digits": ("y s l 7 号", "ysl7号"),
    "digits": ("2 0 0 4 年", "2004年"),
    "Latin words": ("I love you 么", "I love you么"),
    "a Latin word beside Chinese": ("我 的 iPhone 坏 了", "我的iPhone坏了"),
    "words and numbers": ("买 iPhone 7 吧", "买iPhone 7吧"),
    "letters among words": ("ab c d ef", "ab cd ef"),
    "several spaces": ("love    you", "love you"),
    "full-width punctuation": ("， ， 的 发 型 ！", "，，的发型！"),
    "ASCII punctuation": ("好 ! ! 真 的 ?", "好!!真的?"),
    "punctuation after Latin": ("ok , 好 的", "ok,好的"),
    "a smiley": ("( ^ _ ^ )", "(^_^)"),
    "kana": ("か わ い い", "かわいい"),
    "Hangul words": ("안녕 하세요", "안녕 하세요"),
    "rare ideographs": ("𠮷 野 家", "𠮷野家"),
    "ideographic space": ("好\u3000的", "好的"),
    "both ends": ("  好 的  ", "好的"),
    "lines": ("好 的 \n 再 见", "好的\n再见"),
    "nothing": ("", ""),
    "only spaces": ("   ", ""),
}


@pytest.mark.parametrize(("raw", "joined"), SPACED.values(), ids=SPACED)
def test_pre_spaced_text_is_joined(raw: str, joined: str) -> None:
    """Spaces stay only between Latin words; single letters and digits make one word."""
    assert join_spaced(raw) == joined


@given(TEXT)
def test_joining_changes_nothing_but_white_space(text: str) -> None:
    """No character is lost, added or moved, and lines stay lines."""
    joined = join_spaced(text)
    assert "".join(joined.split()) == "".join(text.split())
    assert joined.count("\n") == text.count("\n")


@given(TEXT)
def test_joining_twice_is_joining_once(text: str) -> None:
    """Joined text is not pre-spaced any more."""
    assert join_spaced(join_spaced(text)) == join_spaced(text)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("你\x00好\x7f\x85", "你好"),
        ("\ufeff你\u200b好\u200e\u202e", "你好"),
        ("一\r\n二\t三", "一\n二\t三"),
        ("好\ud83d的", "好的"),
        ("👨\u200d👩\u200d👧 ❤\ufe0f", "👨\u200d👩\u200d👧 ❤\ufe0f"),
        ("e\u0301 한국 Ａ～", "e\u0301 한국 Ａ～"),
    ],
)
def test_control_characters_go_and_visible_text_stays(raw: str, cleaned: str) -> None:
    """Line feeds and tabs stay, and so do the joiners inside emoji."""
    assert remove_control(raw) == cleaned


@given(st.text(st.characters()))
def test_cleaned_text_can_be_stored(text: str) -> None:
    """Whatever JSON escapes produced, the result is valid UTF-8."""
    remove_control(text).encode("utf-8")


def test_trimming_takes_any_white_space_at_the_ends() -> None:
    """Also ideographic spaces; inner white space stays."""
    assert trim("\u3000 a  b\n\t") == "a  b"


@pytest.mark.parametrize(
    ("dialogues", "is_pre_spaced"),
    [
        ([["火 锅 好 吃", "R a p"]], True),
        ([["火锅 我 在 重庆 成都 吃 了 七八 顿 火锅", "真的 好吃"]], True),
        ([["今天去吃火锅吧 好不好", "我用 iPhone 拍的照片 你看看"]], False),
        ([["你好", "在吗"]], False),
        ([["how are you", "fine thanks"]], False),
        ([["R a p", "o k"]], False),
        ([[]], False),
        ([], False),
    ],
)
def test_pre_spaced_files_are_told_by_their_chinese(
    dialogues: list[list[str]], is_pre_spaced: bool
) -> None:
    """Spaces between most neighbouring Chinese characters, not a few between clauses."""
    assert looks_pre_spaced(dialogues) is is_pre_spaced


def test_text_that_is_not_pre_spaced_keeps_its_spaces() -> None:
    """A cleaner told so leaves every inner space alone."""
    dialogue = ["我用 iPhone 7 拍的 a b", "plan B  好"]
    assert cleaned_by(Cleaner(), dialogue, pre_spaced=False) == dialogue


def test_the_report_counts_every_rule() -> None:
    """Utterances changed and dropped, dialogues changed and dropped with their reason."""
    cleaner = Cleaner()
    assert cleaned_by(cleaner, ["吃 了 吗", " \x00 ", "吃\x00了 "], pre_spaced=True) == [
        "吃了吗",
        "吃了",
    ]
    assert cleaned_by(cleaner, ["在", "嗯"], pre_spaced=True) == ["在", "嗯"]
    assert cleaned_by(cleaner, ["在", "\u200b"], pre_spaced=True) is None
    assert cleaned_by(cleaner, [], pre_spaced=False) is None
    assert cleaned_by(cleaner, [" a b ", "c"], pre_spaced=False) == ["a b", "c"]
    report = cleaner.report()
    assert report.version == RULES_VERSION
    assert (report.read, report.kept, report.changed, report.dropped) == (5, 3, 2, 2)
    effects = {
        rule.name: (rule.utterances_changed, rule.utterances_dropped, rule.dialogues_dropped)
        for rule in report.rules
    }
    assert effects == {
        "control": (3, 0, 0),
        "spacing": (3, 0, 0),
        "trim": (1, 0, 0),
        "empty": (0, 2, 0),
        "speakers": (0, 0, 0),
        "short": (0, 0, 2),
    }
    assert [rule.description for rule in report.rules] == [rule.description for rule in RULES]


@given(st.lists(TEXT, max_size=5), st.booleans())
def test_a_cleaned_dialogue_is_clean(utterances: list[str], pre_spaced: bool) -> None:
    """Cleaning the result again, as what it now is, changes and drops nothing."""
    cleaned = cleaned_by(Cleaner(), utterances, pre_spaced=pre_spaced)
    if cleaned is not None:
        again = Cleaner()
        assert cleaned_by(again, cleaned, pre_spaced=False) == cleaned
        assert cleaned_by(again, cleaned, pre_spaced=pre_spaced) == cleaned
        assert again.report().changed == 0
