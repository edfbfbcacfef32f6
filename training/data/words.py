"""Lists of words that utterances are held against: small, in plain text, replaceable."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from training.data.text import half_width
from training.errors import DataError

WORDS = Path(__file__).parents[1] / "rules" / "words"

_NO_LETTER = re.compile(r"[\W_]+")
_REPEATED = re.compile(r"(.)\1+")
_LATIN_WORD = re.compile("[a-z]+")


class WordList(msgspec.Struct, frozen=True):
    """The entries of one list; ``sha256`` is that of its file.

    ``lengths`` are those of the entries that count ``anywhere``. ``latin`` ones do so as words.
    """

    name: str
    sha256: str
    anywhere: frozenset[str]
    lengths: tuple[int, ...]
    latin: frozenset[str]
    whole: frozenset[str]

    def is_in(self, text: str) -> bool:
        """Whether an entry stands anywhere in ``text``, or is the whole of it."""
        letters = letters_of(text)
        if self.is_all_of(letters):
            return True
        for length in self.lengths:
            for at in range(len(letters) - length + 1):
                if letters[at : at + length] in self.anywhere:
                    return True
        words = _LATIN_WORD.findall(half_width(text).lower()) if self.latin else ()
        return not self.latin.isdisjoint(words)

    def is_all_of(self, letters: str) -> bool:
        """Whether an entry is all there is, apart from repetition; by :func:`letters_of`."""
        return _once(letters) in self.whole


def letters_of(text: str) -> str:
    """Letters, digits and Chinese characters alone, in lower case and half width."""
    return _NO_LETTER.sub("", half_width(text)).lower()


def read_words(source: str, *, whole: bool = False) -> WordList:
    """The bundled list called ``source``, or the file of that name; one entry a line.

    ``#`` begins a comment. An entry counts anywhere in a text; with ``=`` in front, or where all
    are ``whole``, it must be the text.

    Raises:
        DataError: there is no such list, or it is not UTF-8.
    """
    path = WORDS / f"{source}.txt"
    if "/" in source or not path.is_file():
        path = Path(source)
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        bundled = ", ".join(sorted(known.stem for known in WORDS.glob("*.txt")))
        message = f"No list of words '{source}': neither a file nor one of {bundled}."
        raise DataError(message) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise DataError("not valid UTF-8", file=path) from error
    entries = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    wholly = {entry.removeprefix("=") for entry in entries if whole or entry.startswith("=")}
    parts = {letters_of(entry) for entry in entries if not whole and not entry.startswith("=")}
    latin = {part for part in parts if part.isascii() and part.isalpha()}
    anywhere = parts - latin - {""}
    return WordList(
        name=path.stem,
        sha256=hashlib.sha256(content).hexdigest(),
        anywhere=frozenset(anywhere),
        lengths=tuple(sorted({len(entry) for entry in anywhere})),
        latin=frozenset(latin),
        whole=frozenset(_once(letters_of(entry)) for entry in wholly) - {""},
    )


def _once(letters: str) -> str:
    """Every character that is repeated, once."""
    return _REPEATED.sub(r"\1", letters)
