"""Places in a text over which no token can lie, whatever else stands in the text.

They are looked for behind a Han character that another one or a wide punctuation mark follows.
There none of the known ways to part a text into words (:data:`WORD_PATTERNS`) looks across: a run
of letters is one word, or the end of one, and what follows letters begins the next.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Letters to every regular expression engine, as they are in Unicode since version 1.1.
FIRST_HAN, LAST_HAN = 0x4E00, 0x9FA5
WIDE_MARKS = "，。！？；：、～…（）《》“”"

# How texts are parted into words, as ``tokenizer.json`` has it: Qwen's way and Llama 3's. GPT-2's
# is the one of ByteLevel. All of them look at most one character ahead, and never behind.
_LETTERS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORD_PATTERNS = (_LETTERS % "", _LETTERS % "{1,3}")

_TABLE_BITS = 22  # of the table that says at once that most pairs are none of the known


def has_borders(backend: Tokenizer) -> bool:
    """Whether ``backend`` is a tokenizer for which :class:`Borders` hold."""
    from tokenizers.models import BPE

    model, normalizer = backend.model, settings_of(backend.normalizer)
    return (
        isinstance(model, BPE)
        and not (model.dropout or model.continuing_subword_prefix or model.end_of_word_suffix)
        and not (model.byte_fallback or model.ignore_merges)
        and (normalizer is None or normalizer["type"] == "NFC")
        and _parts_words_as_known(settings_of(backend.pre_tokenizer))
    )


def settings_of(step: Any) -> Any:
    """A normalizer or pre-tokenizer as ``tokenizer.json`` has it; ``None`` where there is none."""
    return None if step is None else json.loads(step.__getstate__())


def _parts_words_as_known(step: dict[str, Any] | None) -> bool:
    if step is None:
        return False
    if step["type"] == "Sequence":
        first, *rest = step["pretokenizers"]
        return (
            first["type"] == "Split"
            and first["pattern"].get("Regex") in WORD_PATTERNS
            and (first["behavior"], first["invert"]) == ("Isolated", False)
            and len(rest) == 1
            and rest[0]["type"] == "ByteLevel"
            and not rest[0]["use_regex"]
            and not rest[0]["add_prefix_space"]
        )
    return step["type"] == "ByteLevel" and not step["add_prefix_space"]


class Borders:
    """Those for the vocabulary of ``backend``, which is byte-level (:func:`has_borders`).

    ``line_ends_border``: between a letter with its line feed and a Han character there is one too.
    """

    def __init__(self, backend: Tokenizer) -> None:
        flat, ends = _byte_tokens(backend)
        pairs, self._parts = _crossed(flat, ends)
        self._pairs = np.sort(pairs)
        self.line_ends_border = not _follows_a_line(flat, ends)
        self._table = np.zeros(1 << _TABLE_BITS, bool)
        self._table[_slots(self._pairs)] = True
        # whether a character ends in bytes that some token begins with, before another character
        self._ends_in_part = np.zeros(1 << 16, bool)
        lefts = tuple({left for left, _ in self._parts})
        for code in range(FIRST_HAN, LAST_HAN + 1) if lefts else ():
            self._ends_in_part[code] = chr(code).encode().endswith(lefts)

    def within(self, codes: np.ndarray) -> np.ndarray:
        """The borders in a text of code points ([T] uint32): each as the index behind it."""
        is_han = (codes >= FIRST_HAN) & (codes <= LAST_HAN)
        follows = is_han | np.isin(codes, _codes(WIDE_MARKS))
        at = np.flatnonzero(is_han[:-1] & follows[1:])
        left, right = codes[at], codes[at + 1]
        pairs = (left << np.uint32(16)) | right
        is_crossed = self._table[_slots(pairs)]
        if maybe := np.flatnonzero(is_crossed).tolist():
            found = np.searchsorted(self._pairs, pairs[maybe])
            found[found == len(self._pairs)] = 0
            is_crossed[maybe] = self._pairs[found] == pairs[maybe]
        for index in np.flatnonzero(~is_crossed & self._ends_in_part[left]).tolist():
            is_crossed[index] = self._is_crossed_in_part(chr(left[index]), chr(right[index]))
        return at[~is_crossed].astype(np.int64) + 1

    def _is_crossed_in_part(self, one: str, other: str) -> bool:
        before, behind = one.encode(), other.encode()
        return any(
            (before[at:], behind[:end]) in self._parts
            for at in range(len(before))
            for end in range(1, len(behind) + 1)
        )


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _slots(pairs: np.ndarray) -> np.ndarray:
    """Where in the table pairs lie; several may share a place."""
    return (pairs * np.uint32(2654435761)) >> np.uint32(32 - _TABLE_BITS)  # Knuth's hash


def _byte_tokens(backend: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all tokens but the added ones end to end, and where each ends."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    signs = {ord(sign): byte for byte, sign in bytes_to_unicode().items()}
    tokens = list(backend.get_vocab(with_added_tokens=False))
    # what is no string of bytes no merge leads to, so it may be taken for anything
    joined = "".join(tokens).translate(signs).encode("latin-1", "replace")
    return np.frombuffer(joined, np.uint8), np.cumsum(list(map(len, tokens)))


def _crossed(flat: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, set[tuple[bytes, bytes]]]:
    """Which characters some token has parts of, one Han and the one behind it.

    ``flat`` and ``ends`` are as of :func:`_byte_tokens`. Given are pairs of whole characters of
    three bytes each (code points in the upper and the lower half of a uint32); and for other
    tokens the last bytes that they have of the one, and the first that they have of the other.
    """
    padded = np.concatenate((np.zeros(3, np.uint8), flat, np.zeros(3, np.uint8)))
    continues = (padded & 0xC0) == 0x80  # noqa: PLR2004 - UTF-8, as below
    opens = np.zeros(len(padded), bool)
    opens[3] = True
    opens[ends[:-1] + 3] = True
    at = np.flatnonzero(~continues & ~opens)
    at = at[(at > 3) & (at < len(flat) + 3)]  # noqa: PLR2004 - within the padding
    at = at[continues[at - 1]]
    owner = np.searchsorted(ends + 3, at, side="right")
    begin, end = np.concatenate(([3], ends[:-1] + 3))[owner], ends[owner] + 3
    left, is_left = _three_bytes(padded, continues, at - 3)
    is_left &= at - 3 >= begin
    right, is_right = _three_bytes(padded, continues, at)
    is_right &= at + 3 <= end
    is_other = is_left & ~((left >= FIRST_HAN) & (left <= LAST_HAN))
    pairs = (left << np.uint32(16) | right)[is_left & is_right & ~is_other]
    may_be_right = padded[at] & 0xF0 == 0xE0  # noqa: PLR2004 - all that borders have behind them
    rest = np.flatnonzero(~is_other & may_be_right & ~(is_left & is_right))
    raw = padded.tobytes()
    parts = {_around(raw[begin[i] : at[i]], raw[at[i] : end[i]]) for i in rest.tolist()}
    # a whole character before that is no Han
    return pairs, {(one, other) for one, other in parts if len(one) == 3 or one[0] & 0xC0 == 0x80}  # noqa: PLR2004 - UTF-8


def _follows_a_line(flat: np.ndarray, ends: np.ndarray) -> bool:
    """Whether a Han character, or what one may begin with, follows a line feed in any token."""
    is_within = np.ones(len(flat), bool)
    is_within[ends - 1] = False
    may_be_han = (flat[1:] >= 0xE4) & (flat[1:] <= 0xE9)  # noqa: PLR2004 - their first bytes
    return bool(np.any((flat[:-1] == ord("\n")) & may_be_han & is_within[:-1]))


def _three_bytes(
    padded: np.ndarray, continues: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The code points of characters of three bytes that begin ``at``, and where there is one."""
    first, second, third = (padded[at + step].astype(np.uint32) for step in range(3))
    code = (first & 15) << 12 | (second & 63) << 6 | (third & 63)
    return code, (first & 0xF0 == 0xE0) & continues[at + 1] & continues[at + 2]  # noqa: PLR2004 - UTF-8


def _around(before: bytes, behind: bytes) -> tuple[bytes, bytes]:
    """The last character of the one, or what there is of it, and the first of the other."""
    begins = [at for at, byte in enumerate(before) if byte & 0xC0 != 0x80]  # noqa: PLR2004 - UTF-8
    ends = [at for at, byte in enumerate(behind) if at and byte & 0xC0 != 0x80]  # noqa: PLR2004 - UTF-8
    return before[max(begins, default=0) :], behind[: min(ends, default=len(behind))]
