"""Text rules: what each does to an utterance, and what it must leave alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.text import (
    _BEFORE_MARK,
    _NEEDLESS_SPACE,
    fold_width,
    half_width,
    join_spaced,
    looks_pre_spaced,
    remove_control,
    remove_emoji,
    remove_orphans,
    remove_platform,
    shorten_elongation,
    trim,
)

# Text in which all that the rules distinguish is likely, and any other text.
TEXT = st.text(st.sampled_from(" \t\n\u3000aZé7我们，。!,'（Ａ한\u200b\x00")) | st.text()

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
    "clauses of words": ("hello , my friend ! ok ?", "hello, my friend! ok?"),
    "an apostrophe": ("don ' t do it", "don't do it"),
    "dots between letters": ("U . S . A", "U.S.A"),
    "a decimal": ("3 . 5 元", "3.5元"),
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


PLATFORM = {
    "who is answered": ("回复@小明:你好", "你好"),
    "with spaces": ("回复 @小明 ： 你好", " 你好"),
    "a repost with all before it": ("好啊//@张三:不行//@李四:行", "好啊"),
    "a mention": ("@小明 在吗", "在吗"),
    "a mention with a colon": ("@小明：在吗", "在吗"),
    "a mention with a comma": ("@小明，在吗", "，在吗"),
    "a mention at the end": ("在吗@小明", "在吗"),
    "a link": ("看http://t.cn/abc 吧", "看 吧"),
    "a link without scheme": ("看 t.cn/abc", "看 "),
    "a topic": ("#今天#好热", "好热"),
    "a picture": ("[图片]你看", "你看"),
    "a link's stand-in": ("你看 网页链接", "你看 "),
    "an address": ("写给a@b.com吧", "写给a@b.com吧"),
    "a lone @": ("你好@", "你好@"),
    "a number sign": ("C# 和 F#", "C# 和 F#"),
    "slashes": ("1//2", "1//2"),
    "text about it": ("网页链接怎么发", "网页链接怎么发"),
}

EMOJI = {
    "pictographs": ("好开心😂😂！", "好开心！"),
    "with a skin": ("✌🏻好", "好"),
    "a family": ("👨\u200d👩\u200d👧家", "家"),
    "a keycap": ("1\ufe0f\u20e3 2", " 2"),
    "a heart with its selector": ("❤\ufe0f", ""),
    "Weibo's names": ("[doge]哈哈[笑cry]", "哈哈"),
    "an index": ("a[0]", "a[0]"),
    "a long bracket": ("[这不是一个表情]", "[这不是一个表情]"),
    "a smiley in characters": ("(^_^)", "(^_^)"),
    "marks of text": ("→ × ° №", "→ × ° №"),
}

ORPHANS = {
    "commas in front": ("，，，，的发型", "的发型"),
    "a full stop in front": ("。的发型", "的发型"),
    "nothing else": ("，。。", ""),
    "speechlessness": ("。。。", "。。。"),
    "dots": ("...好吧", "...好吧"),
    "a question": ("？？？", "？？？"),
    "a row inside": ("好，，，吧", "好，吧"),
    "a row with spaces": ("好， ，吧", "好，吧"),
    "empty brackets": ("看（）【 】好", "看好"),
    "a call": ("main()", "main()"),
    "an escape left behind": ("don\\' t", "don' t"),
    "at the end": ("好，", "好，"),
    "a decimal": (".5元", ".5元"),
}

WIDTH = {
    "marks after Chinese": ("好!真的?", "好！真的？"),
    "several": ("好~~!", "好～～！"),
    "letters and digits": ("ＡＢｃ１２", "ABc12"),
    "brackets around Chinese": ("(好的)", "（好的）"),
    "Latin alone": ("ok! (fine)", "ok! (fine)"),
    "Latin after Chinese": ("好,ok", "好,ok"),
    "a time": ("3:00", "3:00"),
    "a smiley": ("好:)", "好:)"),
    "full-width marks": ("好！～", "好！～"),
}

ELONGATED = {
    "one character": ("哈哈哈哈哈哈", "哈哈哈哈"),
    "as many as may be": ("啊啊啊啊", "啊啊啊啊"),
    "marks": ("真的！！！！！！", "真的！！！！"),
    "Latin": ("hahahahahaha", "hahahaha"),
    "a word": ("好的好的好的好的好的", "好的好的好的好的"),
    "three characters": ("么么哒么么哒么么哒么么哒么么哒", "么么哒么么哒么么哒么么哒"),
    "a number": ("1000000", "1000000"),
    "spaces": ("a      b", "a      b"),
}


@pytest.mark.parametrize(("raw", "cleaned"), PLATFORM.values(), ids=PLATFORM)
def test_what_a_platform_adds_goes(raw: str, cleaned: str) -> None:
    """Mentions, tags, topics, links and stand-ins; not what merely looks a little like them."""
    assert remove_platform(raw) == cleaned


@pytest.mark.parametrize(("raw", "cleaned"), EMOJI.values(), ids=EMOJI)
def test_emoji_go_whole(raw: str, cleaned: str) -> None:
    """With modifiers and joiners, and Weibo's names of them; other signs stay."""
    assert remove_emoji(raw) == cleaned


@pytest.mark.parametrize(("raw", "cleaned"), ORPHANS.values(), ids=ORPHANS)
def test_punctuation_without_its_words_goes(raw: str, cleaned: str) -> None:
    """What people write to say something with dots and marks alone stays."""
    assert remove_orphans(raw) == cleaned


@pytest.mark.parametrize(("raw", "folded"), WIDTH.values(), ids=WIDTH)
def test_width_follows_the_script(raw: str, folded: str) -> None:
    """Half for letters and digits, full for the punctuation of Chinese, and Latin is left alone."""
    assert fold_width(raw) == folded


LONG = {
    "a bracket that is never closed": (fold_width, "(", "好", ""),
    "backslashes": (remove_orphans, "", "\\", "好"),
    "marks before Latin": (fold_width, "好", ",!", "a"),
}


@pytest.mark.parametrize(("rule", "start", "run", "end"), LONG.values(), ids=LONG)
def test_a_long_run_takes_time_by_its_length(
    rule: Callable[[str], str], start: str, run: str, end: str
) -> None:
    """And not by the square of it, which would be hours for these; none of them is changed."""
    text = start + run * 1_000_000 + end
    assert rule(text) == text


@pytest.mark.parametrize(("raw", "shortened"), ELONGATED.values(), ids=ELONGATED)
def test_elongation_ends_at_the_limit(raw: str, shortened: str) -> None:
    """Of one to three characters in a row; numbers and spaces are none."""
    assert shorten_elongation(raw, 4) == shortened


@given(TEXT, st.integers(1, 5))
def test_shortening_never_lengthens_and_is_done_at_once(text: str, most: int) -> None:
    """No character appears that was not there."""
    shortened = shorten_elongation(text, most)
    assert len(shortened) <= len(text)
    assert set(shortened) <= set(text)
    assert not any(
        character * (most + 1) in shortened for character in set(text) if character.isalpha()
    )


@given(TEXT)
def test_half_width_leaves_other_text_alone(text: str) -> None:
    """Only full-width Latin letters and digits change, one for one."""
    halved = half_width(text)
    assert len(halved) == len(text)
    assert all(
        one == other or "\uff10" <= one <= "\uff5a" for one, other in zip(text, halved, strict=True)
    )


def test_whatever_is_removed_as_control_is_unprintable() -> None:
    """By which printable text is known to have none of it; and white space is what `split` says."""
    for sign in map(chr, range(0x110000)):
        assert remove_control(f"a{sign}") == f"a{sign}" or not sign.isprintable()
        assert sign.isspace() == (not sign.split())


@given(TEXT)
def test_text_without_words_is_joined_as_any_other(text: str) -> None:
    """The short way and the rule agree."""
    assert join_spaced(text) == _NEEDLESS_SPACE.sub("", _BEFORE_MARK.sub("", text))
