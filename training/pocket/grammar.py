"""A small grammar that varies dialogues: other wordings for what the user says.

Only the user's lines change, so every variation still gets the reply that was written for it.
"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

SAMPLES = Path(__file__).parents[1] / "samples"
KEEP = 0.5  # the chance that a wording stays as it is, and that a line gets no opening or ending


class Grammar(msgspec.Struct, frozen=True):
    """Sets of wordings that mean the same, and small words that open or end a line."""

    wordings: tuple[tuple[str, ...], ...]
    openings: tuple[str, ...]
    endings: tuple[str, ...]


def read_grammar(path: Path = SAMPLES / "grammar.json") -> Grammar:
    """The grammar bundled with the samples, or another of the same form."""
    return msgspec.json.decode(path.read_bytes(), type=Grammar)


def vary(dialogue: list[str], grammar: Grammar, rng: random.Random) -> list[str]:
    """``dialogue`` with its user lines worded anew; the last utterance is the assistant's."""
    last = len(dialogue) - 1
    return [
        _reword(line, grammar, rng) if (last - index) % 2 else line
        for index, line in enumerate(dialogue)
    ]


def _reword(line: str, grammar: Grammar, rng: random.Random) -> str:
    for wordings in grammar.wordings:
        found = next((wording for wording in wordings if wording in line), None)
        if found is not None and rng.random() > KEEP:
            line = line.replace(found, rng.choice(wordings), 1)
    if rng.random() > KEEP:
        opening, ending = rng.choice(("", *grammar.openings)), rng.choice(("", *grammar.endings))
        if line[-1] in "。！？，…～":
            line = line[:-1] if ending else line
        line = f"{opening}{line}{ending}"
    return line
