"""Which tokens a sequence has seen, each once: what penalties go by. Plain Python."""

from __future__ import annotations

from array import array
from collections.abc import Iterable


class History:
    """``ids``: every token of prompt and reply, once; ``counts``: how often the reply has it.

    Both are int32 and grow in step, so a step costs nothing for tokens that are known already.
    ``length``: how many tokens of the reply are counted.
    """

    __slots__ = ("_places", "counts", "ids", "length")

    def __init__(self, prompt: Iterable[int] = ()) -> None:
        self.ids = array("i", dict.fromkeys(prompt))
        self.counts = array("i", bytes(self.ids.itemsize * len(self.ids)))
        self._places = {token: place for place, token in enumerate(self.ids)}
        self.length = 0

    def add(self, token: int) -> None:
        """Count a token of the reply."""
        place = self._places.setdefault(token, len(self.ids))
        if place == len(self.ids):
            self.ids.append(token)
            self.counts.append(0)
        self.counts[place] += 1
        self.length += 1

    def after(self, tokens: Iterable[int]) -> History:
        """What this would be after ``tokens``; itself unchanged."""
        copy = History()
        copy.ids, copy.counts, copy._places = self.ids[:], self.counts[:], self._places.copy()
        copy.length = self.length
        for token in tokens:
            copy.add(token)
        return copy
