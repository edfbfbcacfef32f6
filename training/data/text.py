"""The rules that change text, each a pure function from an utterance to an utterance.

LCCC comes split by spaces, between characters in the original files and between words on the Hub;
a current tokenizer would see another language. Much else in it is what a platform or an earlier
cleaning left behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"

# How many dialogues of a file decide whether it is pre-spaced, and the share of neighbouring
# Chinese characters with a space between them above which it is. Character-separated files have
# 1.0 and word-separated ones about 0.6 (words of 1.6 characters); people leave fewer than 0.2.
SAMPLE_DIALOGUES = 1000
PRE_SPACED_SHARE = 0.4

_HAN_JOINED = re.compile(f"[{HAN}](?=[{HAN}])")
_HAN_SPACED = re.compile(f"[{HAN}](?= +[{HAN}])")

# A space parts words only between two of these: letters and digits but those of CJK scripts. It
# is needless elsewhere, after another space, and between two that stand alone (`R a p`). After a
# mark that ends a clause it stays too where whole words stand on both sides (`hello, world`).
_WORD = r"[^\W_\u2e80-\u9fff\uf900-\U0010ffff]"
_LETTER = r"[^\W\d_\u2e80-\u9fff\uf900-\U0010ffff]"
_SPACE = r"[^\S\n]"
_BEFORE_MARK = re.compile(rf"(?<={_WORD}{_WORD}){_SPACE}++(?=[,.!?;:]{_SPACE}+{_LETTER}{_WORD})")
_NEEDLESS_SPACE = re.compile(
    rf"(?!(?<={_WORD}{_WORD}[,.!?;:]){_SPACE}+{_LETTER}{_WORD})"
    rf"(?:(?<!{_WORD}){_SPACE}++|{_SPACE}++(?!{_WORD})"
    rf"|(?<=(?<!\S){_WORD}){_SPACE}++(?={_WORD}(?!\S)))"
)

# Control characters but tab and line feed, invisible marks of direction and width (the joiners
# U+200C and U+200D stay: emoji are built with them), and halves of broken surrogate pairs.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]"
)

# Half of a surrogate pair is no character. JSON's escapes can write one; UTF-8 cannot.
_HALVES = re.compile("[\ud800-\udfff]")

# Text without one of these needs none of its spaces.
_ANY_WORD = re.compile(_WORD)

_NAME = r"[\w\-·.]{1,30}"
_PLATFORM = re.compile(
    rf"(?:回复|轉發|转发)[ \t]*@{_NAME}[ \t]*[:：]?"  # who is answered
    rf"|//[ \t]*@{_NAME}[ \t]*[:：].*"  # what was reposted, to the end
    r"|https?://[\w./?&=%#~:;+,@!$*()-]+|\bt\.cn/\w+"
    rf"|(?<![A-Za-z0-9.])@{_NAME}(?:[ \t]*[:：]|\s+|(?=[,，])|$)"
    r"|(?<![A-Za-z0-9])\#[^#\n]{1,30}\#"
    r"|\[(?:图片|表情|动画表情|语音|视频|链接|位置)\]|(?:查看图片|网页链接|秒拍视频)$",
    re.DOTALL,
)

# Pictographs with what modifies them, flags, keycaps, and Weibo's names in brackets.
_EMOJI = re.compile(
    "(?:[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u2300-\u23ff\u203c\u2049\u3030\u303d"
    "\u3297\u3299][\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff]*\u200d?)+"
    "|[0-9#*]\ufe0f?\u20e3|[\U000e0020-\U000e007f\ufe0f\u200d]"
    f"|\\[[A-Za-z{HAN}]{{1,6}}\\]"
)

# Text is as long as a stranger's file makes it: in these a run of signs is taken whole and is never
# looked at from its middle, so that the time grows with the length and not with its square.
#
# A comma-like mark in front, perhaps among others, has lost its clause; so has each of a row but
# one. Dots alone (`。。。`) are speechlessness and stay.
_COMMA = "，、；：,;"
_ORPHANS = re.compile(
    rf"^[\s{_COMMA}。]*[{_COMMA}][\s{_COMMA}。]*|^。(?=[^。\s])"
    rf"|(?<=[{_COMMA}])(?:\s*[{_COMMA}])+"
    "|（\\s*）|【\\s*】|《\\s*》|「\\s*」|“\\s*”|(?<!\\\\)\\\\++\\s*+(?=['\"])"
)

# Full-width letters and digits, and the marks that Chinese sets in full width.
_HALF = {
    ord(full): ord(full) - 0xFEE0 for full in map(chr, range(0xFF10, 0xFF5B)) if full.isalnum()
}
_FULL = {",": "，", "!": "！", "?": "？", ";": "；", ":": "：", "~": "～", "(": "（", ")": "）"}
_AFTER_HAN = re.compile(  # but not a smiley's eyes, nor what stands before Latin letters
    f"(?<=[{HAN}，！？；：～）])(?:[,!?~]|[;:](?![()^_*-]))++(?![,!?;:~]*+[^\\W\\d_{HAN}])"
)
_BRACKETS = re.compile(f"\\(([^()\n{HAN}]*+[{HAN}][^()\n]*+)\\)")


def remove_control(text: str) -> str:
    """``text`` without characters that no one can see or that no file can hold."""
    return text if text.isprintable() else _CONTROL.sub("", text)  # all of them are unprintable


def has_halves(text: str) -> bool:
    """Whether ``text`` has halves of surrogate pairs, so that no file can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def remove_halves(text: str) -> str:
    """``text`` without halves of surrogate pairs."""
    return _HALVES.sub("", text)


def with_halves_shown(text: str) -> str:
    """``text`` with U+FFFD for each half of a surrogate pair."""
    return _HALVES.sub("\ufffd", text)


def join_spaced(text: str) -> str:
    """Undo the spaces of pre-spaced text.

    A space stays only between two Latin words or numbers, and after a mark between two words. A
    run of single letters or digits (``R a p``, ``2 0 0 4``) is one word: where words met inside it
    can no longer be told.
    """
    words = text.split()
    if len(words) < 2 and "".join(words) == text:  # noqa: PLR2004 - no space in it
        return text
    if "\n" not in text and not _ANY_WORD.search(text):
        return "".join(words)
    return _NEEDLESS_SPACE.sub("", _BEFORE_MARK.sub("", text))


def looks_pre_spaced(dialogues: Iterable[Sequence[str]]) -> bool:
    """Whether spaces stand between the characters or words of these dialogues throughout."""
    joined = spaced = 0
    for utterances in dialogues:
        for text in utterances:
            joined += len(_HAN_JOINED.findall(text))
            spaced += len(_HAN_SPACED.findall(text))
    return spaced > PRE_SPACED_SHARE * (spaced + joined)


def remove_platform(text: str) -> str:
    """``text`` without mentions, reply and repost tags, topics, links and stand-ins for media."""
    return _PLATFORM.sub("", text)


def remove_emoji(text: str) -> str:
    """``text`` without emoji and without their names as Weibo writes them (``[doge]``)."""
    return _EMOJI.sub("", text)


def remove_orphans(text: str) -> str:
    """``text`` without punctuation that an earlier cleaning left behind."""
    return _ORPHANS.sub("", text)


def half_width(text: str) -> str:
    """``text`` with Latin letters and digits in half width."""
    return text if text.isascii() else text.translate(_HALF)


def fold_width(text: str) -> str:
    """Half-width letters and digits; full-width marks and brackets with Chinese."""
    text = half_width(text)
    text = _BRACKETS.sub(r"（\1）", text)
    return _AFTER_HAN.sub(lambda found: "".join(map(_FULL.__getitem__, found[0])), text)


def shorten_elongation(text: str, most: int) -> str:
    """One to three characters that are repeated more than ``most`` times, so many times only.

    Digits stay: 10000 is a number.
    """
    return _elongation(most).sub(lambda found: found[1] * most, text)


@cache
def _elongation(most: int) -> re.Pattern[str]:
    return re.compile(rf"([^\d\s]{{1,3}}?)\1{{{most},}}")


def trim(text: str) -> str:
    """``text`` without white space at its ends."""
    return text.strip()
