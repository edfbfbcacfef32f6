"""Guesses how a reply goes on from what it has said before, so that several tokens fit in a step.

A reply that copies (code, lists, quotations) goes on as it did after the same words earlier.
Guessed tokens are computed together with the last known one, and kept as far as they are what
would have been drawn anyway: a wrong guess costs time and changes nothing.

Sources: prompt lookup decoding (Saxena, 2023); verification as in arXiv 2211.17192, by equality.
"""

from __future__ import annotations

from collections.abc import Sequence

# So many tokens in a row have to be the same as before.
WORDS = 3


class Guesser:
    """Keeps an index of one text that only grows; ``longest`` bounds a guess, in tokens.

    Guesses are short after a wrong one and longer after a right one.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._hoped = min(2, longest)
        self._follows: dict[tuple[int, ...], int] = {}  # where the text went on, the latest time
        self._indexed = WORDS

    def guess(self, tokens: Sequence[int], at_most: int) -> tuple[int, ...]:
        """The next tokens, up to ``at_most``; empty where nothing like it was said before."""
        for end in range(self._indexed, len(tokens)):
            self._follows[tuple(tokens[end - WORDS : end])] = end
        self._indexed = max(self._indexed, len(tokens))
        source = self._follows.get(tuple(tokens[-WORDS:]))
        if source is None:
            return ()
        guessed: list[int] = []
        for at in range(source, source + min(self._hoped, at_most)):
            # What it copies may run into the guess itself, as in a text that repeats.
            guessed.append(tokens[at] if at < len(tokens) else guessed[at - len(tokens)])
        return tuple(guessed)

    def learn(self, guessed: int, right: int) -> None:
        """Take note that ``right`` of ``guessed`` tokens were what came."""
        if guessed:
            hoped = 2 * self._hoped if right == guessed else max(1, right)
            self._hoped = min(hoped, self._longest)
