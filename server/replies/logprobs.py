"""Log probabilities as clients read them: tokens as text and bytes."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

from server.engine.types import Piece, Scored, TokenLogprobs
from server.wire.completions import TokenLogprob, TopLogprob
from server.wire.text import TextLogprobs

# JSON has no infinity; vLLM's stand-in for it.
LEAST = -9999.0

PieceOf = Callable[[int], Piece]


def chat_logprobs(found: Sequence[TokenLogprobs], piece_of: PieceOf) -> list[TokenLogprob]:
    """One entry a token, in order."""
    return [_entry(each, piece_of) for each in found]


def _entry(found: TokenLogprobs, piece_of: PieceOf) -> TokenLogprob:
    data = piece_of(found.token).name
    return TokenLogprob(
        token=token_text(data),
        logprob=bounded(found.logprob),
        bytes=list(data),
        top_logprobs=[
            TopLogprob(token=token_text(other), logprob=bounded(value), bytes=list(other))
            for other, value in (
                (piece_of(token).name, value) for token, value in found.alternatives
            )
        ],
    )


def token_text(data: bytes) -> str:
    """A token by itself; where it holds a part of a character, its bytes tell which."""
    return data.decode(errors="replace")


def bounded(logprob: float) -> float:
    """At least :data:`LEAST`."""
    return max(logprob, LEAST)


class Offsets:
    """Where in a text each token begins, in characters, from ``start`` on.

    A token that goes on with a character begins where the character does; one after bytes that
    never became a character begins behind what stands for them. ``at``: where the next begins,
    unless it goes on with a character.
    """

    def __init__(self, start: int = 0) -> None:
        self.at = start
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def next(self, data: bytes) -> int:
        """Where a token of these bytes begins, which is the next."""
        begin = self.at
        held, _ = self._decoder.getstate()
        if held and data and not _goes_on(held + data[:1]):
            begin += len(held.decode(errors="replace"))
        self.at += len(self._decoder.decode(data))
        return begin


def _goes_on(data: bytes) -> bool:
    """Whether ``data`` is a character or the beginning of one."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def text_logprobs(
    found: Sequence[TokenLogprobs], piece_of: PieceOf, offsets: Offsets
) -> TextLogprobs:
    """The lists of OpenAI's older API; the token itself is always among the likely ones."""
    shown = TextLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
    for each in found:
        _add(shown, each, piece_of, offsets.next(piece_of(each.token).text))
    return shown


def prompt_logprobs(scored: Scored, piece_of: PieceOf, text: str) -> TextLogprobs:
    """The same of a prompt that is echoed as ``text``, control tokens by name."""
    names = _names([scored.first, *(each.token for each in scored.logprobs)], piece_of, text)
    offsets = Offsets()
    shown = TextLogprobs(
        tokens=[name_of(piece_of(scored.first).name)],
        token_logprobs=[None],
        top_logprobs=[None],
        text_offset=[offsets.next(names[0])],
    )
    for each, name in zip(scored.logprobs, names[1:], strict=True):
        _add(shown, each, piece_of, offsets.next(name))
    return shown


def _names(tokens: Sequence[int], piece_of: PieceOf, text: str) -> list[bytes]:
    """What each adds to ``text``: some tokenizers put a space first that is not in it."""
    pieces = [piece_of(token) for token in tokens]
    names = [piece.name for piece in pieces]
    if len(b"".join(names).decode(errors="replace")) > len(text):
        first = next(at for at, piece in enumerate(pieces) if piece.text)
        names[first] = names[first].removeprefix(b" ")
    return names


def _add(shown: TextLogprobs, found: TokenLogprobs, piece_of: PieceOf, offset: int) -> None:
    likely = {name_of(piece_of(token).name): bounded(value) for token, value in found.alternatives}
    name, logprob = name_of(piece_of(found.token).name), bounded(found.logprob)
    shown.tokens.append(name)
    shown.token_logprobs.append(logprob)
    shown.top_logprobs.append({**likely, name: logprob})
    shown.text_offset.append(offset)


def both(one: TextLogprobs, other: TextLogprobs) -> TextLogprobs:
    """The lists of ``one``, each with that of ``other`` behind."""
    return TextLogprobs(
        tokens=one.tokens + other.tokens,
        token_logprobs=one.token_logprobs + other.token_logprobs,
        top_logprobs=one.top_logprobs + other.top_logprobs,
        text_offset=one.text_offset + other.text_offset,
    )


def name_of(data: bytes) -> str:
    """A token as a key: its text, or its bytes where they are no text."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
