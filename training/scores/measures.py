"""Measures of texts by their characters; white space does not count anywhere.

Each is a percentage except lengths. Tools that say "BLEU-4" of Chinese mean words or characters;
these are all over characters, and say so in their names.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

REPETITION_LENGTH = 4


def characters(text: str) -> str:
    """What is counted of ``text``: everything but white space."""
    return "".join(text.split())


def ngrams(text: str, length: int) -> Counter[str]:
    """How often each run of ``length`` characters stands in ``text``."""
    return Counter(text[at : at + length] for at in range(len(text) - length + 1))


def bleu(references: Sequence[str], replies: Sequence[str], order: int) -> float:
    """Corpus BLEU of Papineni et al. 2002 over characters, with one reference each, unsmoothed.

    The geometric mean of the precisions of 1 to ``order`` characters, times the brevity penalty;
    0 where one of the precisions is. As sacrebleu with ``tokenize="char"``,
    ``max_ngram_order=order``, ``smooth_method="none"``.
    """
    matches, candidates = [0] * order, [0] * order
    reply_length = reference_length = 0
    for reference, reply in _counted(references, replies):
        reply_length += len(reply)
        reference_length += len(reference)
        for length in range(1, order + 1):
            found = ngrams(reply, length)
            matches[length - 1] += (found & ngrams(reference, length)).total()
            candidates[length - 1] += found.total()
    if not all(matches):
        return 0.0
    precisions = zip(matches, candidates, strict=True)
    mean = sum(math.log(hit / many) for hit, many in precisions) / order
    brevity = min(0.0, 1 - reference_length / reply_length)
    return 100 * math.exp(mean + brevity)


def rouge_l(references: Sequence[str], replies: Sequence[str]) -> float:
    """The mean over all pairs of ROUGE-L (Lin 2004): F1 of the longest common subsequence."""
    scores = []
    for reference, reply in _counted(references, replies):
        common = longest_common_subsequence(reference, reply)
        scores.append(2 * common / (len(reference) + len(reply)) if common else 0.0)
    return 100 * _mean(scores)


def longest_common_subsequence(one: str, other: str) -> int:
    """How many characters both have in the same order, with gaps allowed."""
    row = [0] * (len(other) + 1)
    for character in one:
        above_left = 0
        for at, candidate in enumerate(other, start=1):
            above = row[at]
            row[at] = above_left + 1 if character == candidate else max(above, row[at - 1])
            above_left = above
    return row[-1]


def distinct(replies: Sequence[str], length: int) -> float:
    """Distinct-n of Li et al. 2016: how many of all runs of ``length`` characters differ.

    It falls with the number of replies, so it compares only sets of the same size.
    """
    found: Counter[str] = Counter()
    for reply in replies:
        found += ngrams(characters(reply), length)
    return 100 * len(found) / found.total() if found else 0.0


def repetition(replies: Sequence[str]) -> float:
    """The mean share of a reply's runs of four characters that it has had before.

    As seq-rep-4 of Welleck et al. 2020; a reply of fewer characters repeats nothing.
    """
    shares = []
    for reply in replies:
        found = ngrams(characters(reply), REPETITION_LENGTH)
        shares.append(1 - len(found) / found.total() if found else 0.0)
    return 100 * _mean(shares)


def mean_length(replies: Sequence[str]) -> float:
    """Characters of a reply, on average."""
    return _mean([len(characters(reply)) for reply in replies])


def share(flags: Iterable[bool]) -> float:
    """How many of ``flags`` are true."""
    return 100 * _mean([float(flag) for flag in flags])


def _counted(references: Sequence[str], replies: Sequence[str]) -> list[tuple[str, str]]:
    pairs = zip(references, replies, strict=True)
    return [(characters(reference), characters(reply)) for reference, reply in pairs]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
