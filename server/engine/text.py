"""From tokens to text while they arrive: complete characters only, and never part of a stop string.

Every token is a piece of bytes (:mod:`server.engine.tokenizer` makes the table), so the work is in
proportion to the text, and the pieces of a reply add up to its decoded whole by construction.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from server.engine.dialect import THINK, THINK_END
from server.engine.types import Thought


class Detokenizer:
    """Decodes bytes as UTF-8, holding an incomplete character back.

    Bytes that can never become a character turn into U+FFFD, as in any lossy decoding.
    """

    def __init__(self, pieces: Sequence[bytes], *, strips_first_space: bool = False) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._strips_space = strips_first_space
        self._holds = False  # a part of a character

    def feed(self, token: int) -> str:
        """Return the characters that ``token`` completes; unknown tokens have no text."""
        piece = self._pieces[token] if token < len(self._pieces) else b""
        if self._strips_space and piece:
            piece, self._strips_space = piece.removeprefix(b" "), False
        if not self._holds:
            try:
                return piece.decode()  # most are whole characters; the other way takes longer
            except UnicodeDecodeError:
                pass
        text = self._decoder.decode(piece)
        self._holds = bool(self._decoder.getstate()[0])
        return text

    def finish(self) -> str:
        """Return what was held back; a cut character comes out as U+FFFD."""
        return self._decoder.decode(b"", final=True)


class StopFinder:
    """Passes text on until one of ``stops`` appears, which it swallows with all that follows."""

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.is_needed = bool(self._stops)
        self.is_found = False

    def feed(self, text: str) -> str:
        """Return what is surely before any stop string."""
        if self.is_found or not self._stops:
            return "" if self.is_found else text
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.is_found, self._held = True, ""
            return text[: min(found)]
        held = max(overlap(text, stop) for stop in self._stops)
        cut = len(text) - held
        self._held = text[cut:]
        return text[:cut]

    def finish(self) -> str:
        """Return what was held back: it did not become a stop string after all."""
        held, self._held = self._held, ""
        return held


class ThoughtFinder:
    """Tells the thought that a reply begins with, its marks included, from what follows it."""

    def __init__(self, thought: Thought) -> None:
        self._state = thought
        self._held = ""

    @property
    def is_needed(self) -> bool:
        """Whether what comes next may belong to a thought."""
        return self._state != "none"

    @property
    def is_open(self) -> bool:
        """Whether the thought has begun and not ended."""
        return self._state == "open"

    def feed(self, text: str) -> tuple[str, str]:
        """Return what ``text`` adds to the thought, and what to the rest."""
        text, self._held = self._held + text, ""
        if self._state == "possible" and text:
            if text.startswith(THINK):
                self._state = "open"
            elif THINK.startswith(text):
                self._held = text
                return "", ""
            else:
                self._state = "none"
        if self._state != "open":
            return "", text
        if (at := text.find(THINK_END)) < 0:
            cut = len(text) - overlap(text, THINK_END)
            self._held = text[cut:]
            return text[:cut], ""
        self._state = "none"
        end = at + len(THINK_END)
        return text[:end], text[end:]

    def finish(self) -> tuple[str, str]:
        """Return what was held back."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "open" else ("", held)


class Reply:
    """The text of one generation: detokenised, and ended by a stop string.

    Stop strings are looked for in what follows the first ``min_tokens`` tokens and the ``thought``.
    """

    def __init__(
        self,
        detokenizer: Detokenizer,
        stops: Iterable[str] = (),
        *,
        min_tokens: int = 0,
        thought: Thought = "none",
    ) -> None:
        self._detokenizer = detokenizer
        self._finder = StopFinder(stops)
        self._thought = ThoughtFinder(thought)
        self._unstoppable = min_tokens
        self._is_watched = self._finder.is_needed or self._thought.is_needed

    @property
    def is_stopped(self) -> bool:
        return self._finder.is_found

    def feed(self, token: int) -> str:
        """Return the text that may be shown now."""
        text = self._detokenizer.feed(token)
        if not self._is_watched:
            return text
        thought, text = self._thought.feed(text)
        self._is_watched = self._finder.is_needed or self._thought.is_needed
        if self._unstoppable:
            self._unstoppable -= 1
            return thought + text
        return thought + self._finder.feed(text)

    def finish(self) -> str:
        """Return the rest, once no token follows."""
        thought, text = self._thought.feed(self._detokenizer.finish())
        held, rest = self._thought.finish()
        return thought + held + self._finder.feed(text + rest) + self._finder.finish()


def overlap(text: str, end: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``end``, but not all of it."""
    for length in range(min(len(text), len(end) - 1), 0, -1):
        if text.endswith(end[:length]):
            return length
    return 0
