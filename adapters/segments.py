"""Text as tokens by segments that are met again and again: the tokenizer's own tokens, quicker.

Byte-level BPE merges neighbours as long as together they are a token (Sennrich et al., "Neural
Machine Translation of Rare Words with Subword Units", algorithm 1). Where no token holds the end of
one character and the beginning of the next, nothing is ever merged across the two, so what stands
before and what stands behind are encoded independently (``adapters.borders`` knows these places).
Chinese text falls into short segments there; few differ, so most are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from adapters.borders import Borders, has_borders

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# How many segments are remembered; each takes about 200 bytes.
REMEMBERED = 1 << 18

_UNKNOWN = -1


class Tokens(NamedTuple):
    """The tokens of some texts end to end ([T] uint32), and where those of each end ([N] int64)."""

    flat: np.ndarray
    ends: np.ndarray


class SegmentEncoder:
    """Encodes with ``backend``; none of its added tokens may stand in a text."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        backend.no_truncation()
        backend.no_padding()
        self._borders = Borders(backend) if has_borders(backend) else None
        self._pool = Tokens(np.empty(0, np.uint32), np.empty(0, np.int64))
        self._forget()

    def encode(self, texts: Sequence[str]) -> Tokens:
        """The tokens of each text, without what a tokenizer adds at its ends."""
        if self._borders is None:
            return self._encode_whole(texts)
        if len(self._numbers) > REMEMBERED:
            self._forget()
        joined = "".join(texts)
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        text_ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        is_end = np.zeros(len(codes) + 1, bool)
        is_end[self._borders.within(codes)] = True
        is_end[text_ends] = True
        ends = np.flatnonzero(is_end[1:]) + 1
        segments = self._numbered(joined, codes, ends)
        flat, upto = gathered(self._pool, segments)
        # how many segments end within each text or before it
        return Tokens(flat, upto[np.searchsorted(ends, text_ends, side="right")])

    def parts_from_han(self, before: str) -> bool:
        """Whether text that begins with a Han character is encoded behind ``before`` as by itself.

        ``False`` where it is not sure; sure is a line's end after a letter.
        """
        return (
            self._borders is not None
            and self._borders.line_ends_border
            and before[-1:] == "\n"
            and before[-2:-1].isascii()
            and before[-2:-1].isalpha()
        )

    def _numbered(self, joined: str, codes: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The number in the pool of each segment, given where in ``joined`` they end."""
        starts = np.concatenate(([0], ends))[:-1]
        numbers = np.full(len(ends), _UNKNOWN, np.int64)
        alone = ends - starts == 1
        numbers[alone] = self._characters[codes[starts[alone]]]
        rest = np.flatnonzero(numbers == _UNKNOWN)
        spans = zip(starts[rest].tolist(), ends[rest].tolist(), strict=True)
        segments = [joined[start:end] for start, end in spans]
        if new := list(set(segments).difference(self._numbers)):
            self._remember(new)
        numbers[rest] = [self._numbers[segment] for segment in segments]
        return numbers

    def _remember(self, segments: Sequence[str]) -> None:
        first = len(self._pool.ends)
        flat, ends = self._encode_whole(segments)
        before = len(self._pool.flat)
        self._pool = Tokens(
            np.concatenate((self._pool.flat, flat)),
            np.concatenate((self._pool.ends, ends + before)),
        )
        for number, segment in enumerate(segments, start=first):
            self._numbers[segment] = number
            if len(segment) == 1:
                self._characters[ord(segment)] = number

    def _forget(self) -> None:
        self._numbers: dict[str, int] = {}
        self._characters = np.full(0x110000, _UNKNOWN, np.int32)
        self._pool = Tokens(np.empty(0, np.uint32), np.empty(0, np.int64))

    def _encode_whole(self, texts: Sequence[str]) -> Tokens:
        found = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        ids = [encoding.ids for encoding in found]
        ends = np.cumsum([len(each) for each in ids], dtype=np.int64)
        flat = [np.array(each, np.uint32) for each in ids]
        return Tokens(np.concatenate([np.empty(0, np.uint32), *flat]), ends)


def gathered(pool: Tokens, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of the texts ``numbers`` of ``pool`` end to end.

    Beside them [N + 1] how many tokens the first 0, 1, … N of these texts have.
    """
    ends = pool.ends[numbers]
    starts = np.where(numbers > 0, pool.ends[numbers - 1], 0)
    lengths = ends - starts
    upto = np.concatenate(([0], np.cumsum(lengths)))
    shift = np.repeat(starts - upto[:-1], lengths)
    return pool.flat[np.arange(upto[-1]) + shift], upto
