"""How alike two dialogues are, and which pairs of many are worth comparing.

Likeness is the Jaccard index of the sets of neighbouring characters of both dialogues: what they
share, as a part of what they have. Only letters, digits and Chinese characters count, and where an
utterance begins and ends. Pairs are found by MinHash in bands (Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3), whose signatures come from rensa, and are then compared
exactly: what is found is alike, and a few of those that are alike may not be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np

from training.data.dialogue import Dialogue
from training.data.words import letters_of

# Slots of a signature at most, and the share of pairs just at the threshold that must be found.
SLOTS = 64
FOUND_SHARE = 0.99
SEED = 1

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 by the golden ratio, as in Knuth's multiplicative hash


class Banding(msgspec.Struct, frozen=True):
    """A signature's slots in ``bands`` of ``rows``: alike are those that agree in a whole band."""

    bands: int
    rows: int

    @classmethod
    def for_threshold(cls, threshold: float) -> Banding:
        """The one with the longest bands, so the fewest pairs, that finds enough of them."""
        for rows in range(SLOTS, 1, -1):
            banding = cls(SLOTS // rows, rows)
            if banding.chance(threshold) >= FOUND_SHARE:
                return banding
        return cls(SLOTS, 1)

    def chance(self, alike: float) -> float:
        """How likely a pair of dialogues with likeness ``alike`` is to agree in some band."""
        return 1 - (1 - alike**self.rows) ** self.bands


def spelled(dialogue: Dialogue) -> str:
    """What counts of a dialogue when it is compared, with borders of its utterances."""
    return "\n" + "\n".join(map(letters_of, dialogue.utterances)) + "\n"


def likeness(one: Dialogue, other: Dialogue) -> float:
    """From 0, nothing in common, to 1.

    0 where neither has anything that counts, and where system prompts differ.
    """
    if one.system != other.system:
        return 0.0
    pairs, others = (set(pairwise(spelled(dialogue))) for dialogue in (one, other))
    nothing = ("\n", "\n")
    pairs.discard(nothing)
    others.discard(nothing)
    return len(pairs & others) / max(1, len(pairs | others))


def band_keys(dialogues: Sequence[Dialogue], banding: Banding) -> np.ndarray:
    """A key for each band of each dialogue, ``[dialogues, bands]`` in uint32.

    Equal bands have equal keys; of the others one in four thousand million has too.
    """
    from rensa import RMinHash

    if not dialogues:
        return np.empty((0, banding.bands), np.uint32)
    hashes, offsets = _pair_hashes([spelled(dialogue) for dialogue in dialogues])
    slots = banding.bands * banding.rows
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, slots, SEED)
    rows = np.array(matrix.to_rows(), np.uint64).reshape(len(dialogues), banding.bands, -1)
    mixed = np.ones(rows.shape[:2], np.uint64)
    for index in range(banding.rows):
        mixed = (mixed ^ rows[:, :, index]) * _MIX
    return (mixed >> np.uint64(32)).astype(np.uint32)


def _pair_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all pairs of neighbours, text after text, and where each text's begin and end."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32).astype(np.uint64)
    hashes = (((codes[:-1] << np.uint64(32)) | codes[1:]) + np.uint64(1)) * _MIX
    hashes ^= hashes >> np.uint64(29)
    ends = np.cumsum([len(text) for text in texts])
    within = np.ones(len(hashes), bool)
    within[ends[:-1] - 1] = False  # the last character of a text and the first of the next
    offsets = np.concatenate(([0], ends - np.arange(1, len(texts) + 1)))
    return hashes[within], offsets.astype(np.uint64)
