"""Dialogues in LCCC's shape, drawn at random: lengths, turns and spaces as there, without sense.

Turns: half of the dialogues have two utterances, the others three or more, 3.86 on average, two
thirds of these an odd number (LCCC-base: 3.35 M and 3.47 M). Lengths: lognormal, 11.6 characters on
average. Every character stands by itself between spaces, as in the original files. A few utterances
in a hundred are generic, elongated, have Latin letters, digits or orphaned punctuation. Speeds of
preparation and training depend on nothing else of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from training.synthetic.tokenizer import han

BLOCK = 10_000  # dialogues drawn together

_SINGLE_TURN = 0.492
_MORE_TURNS = 0.538  # of the dialogues with three turns or more, those that end at each further one
_MOST_TURNS = 30
_MEDIAN_CHARACTERS = 8.6
_SPREAD = 0.7  # deviation of the logarithm; the mean is exp(spread**2 / 2) times the median
_MOST_CHARACTERS = 150
_LEVEL_1 = 3_755  # of GB 2312: the common characters, by pronunciation
_COMMON = 3_000  # of these are drawn, by Zipf's law

_GENERIC = ("哈哈", "哈哈哈哈哈", "好的", "谢谢", "晚安", "嗯", "是啊", "真的吗？", "我也是")
_ENDS = ("。", "！", "？", "～", "…", "")
_ODD = ("y s l 7 号", "2 0 0 4 年", "R a p", "， ， ，", "! ! ! !", "O M G", "\\ '", "1 0 0 %")
_GENERIC_SHARE, _ODD_SHARE, _COMMA_SHARE = 0.03, 0.04, 0.35


def random_dialogues(many: int, seed: int, shortened: float = 1.0) -> Iterator[list[str]]:
    """So many dialogues, oldest utterance first; equal for equal arguments.

    ``shortened``: by how much utterances are shorter than LCCC's, so that a tokenizer that makes a
    token of every character gives lengths as one that knows words.
    """
    signs = [sign for sign in han() if "\u4e00" <= sign <= "\u9fff"][:_LEVEL_1]
    order = np.random.default_rng(0).permutation(len(signs))[:_COMMON]
    common = np.array([signs[at] for at in order])
    weights = 1 / np.arange(1, _COMMON + 1)
    for number, start in enumerate(range(0, many, BLOCK)):
        chance = np.random.default_rng([seed, number])
        turns = _turns(chance, min(BLOCK, many - start))
        median = _MEDIAN_CHARACTERS / shortened
        yield from _block(chance, turns, median, common, weights / weights.sum())


def write_random_dialogues(
    path: Path, many: int, seed: int = 0, *, shortened: float = 1.0, key: str | None = None
) -> Path:
    """Write them to ``path`` as JSON Lines, one dialogue a line, and return it.

    A line is a list of utterances, or with ``key`` an object that has them under it.
    """
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for dialogue in random_dialogues(many, seed, shortened):
            file.write(encoder.encode({key: dialogue} if key else dialogue) + b"\n")
    return path


def _block(
    chance: np.random.Generator,
    turns: np.ndarray,
    median: float,
    common: np.ndarray,
    weights: np.ndarray,
) -> Iterator[list[str]]:
    total = int(turns.sum())
    drawn = chance.lognormal(np.log(median), _SPREAD, total)
    lengths = np.clip(drawn.round(), 1, _MOST_CHARACTERS).astype(np.int64)
    text = chance.choice(common, int(lengths.sum()), p=weights)
    ends = lengths.cumsum()
    kinds = chance.random(total)
    picks = chance.integers(0, 1 << 30, total)
    commas = chance.random(total) < _COMMA_SHARE
    at = 0
    for count in turns.tolist():
        dialogue = []
        for _ in range(count):
            signs = text[ends[at] - lengths[at] : ends[at]].tolist()
            dialogue.append(_utterance(signs, float(kinds[at]), int(picks[at]), bool(commas[at])))
            at += 1
        yield dialogue


def _turns(chance: np.random.Generator, many: int) -> np.ndarray:
    """The number of utterances of each dialogue."""
    longer = 2 + chance.geometric(_MORE_TURNS, many)
    single = chance.random(many) < _SINGLE_TURN
    return np.where(single, 2, np.minimum(longer, _MOST_TURNS))


def _utterance(signs: list[str], kind: float, pick: int, has_comma: bool) -> str:
    """``signs`` with punctuation, or in their place what stands in any dialogue."""
    if kind < _GENERIC_SHARE:
        return " ".join(_GENERIC[pick % len(_GENERIC)])
    if has_comma and len(signs) > 4:  # noqa: PLR2004 - room for both sides of it
        signs[len(signs) // 2] = "，"
    spaced = " ".join([*signs, _ENDS[pick % len(_ENDS)]]).rstrip()
    if kind > 1 - _ODD_SHARE:
        odd = _ODD[pick % len(_ODD)]
        return f"{odd} {spaced}" if pick % 2 else f"{spaced} {odd}"
    return spaced
