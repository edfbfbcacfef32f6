"""A dataset in numbers: lengths, turns, repetition, and what padding its tokens would waste."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from training.data.arrow import Dialogues, dialogues_of, numbers
from training.data.dataset import PreparedDataset
from training.data.groups import first_of_each
from training.data.split import SPLITS
from training.data.tokens import TokenFiles
from training.stages import OnProgress, unheard

if TYPE_CHECKING:
    import pyarrow as pa

PERCENTILES = (50, 90, 99)

# Batches whose padding is computed: as many rows at random, or of neighbours by length.
RANDOM_BATCHES = (2, 8, 32)
SORTED_BATCHES = (8, 32)
SEED = 0


class Distribution(msgspec.Struct, frozen=True):
    """Whole numbers: how many there are, their mean, percentiles and greatest, and all of them.

    ``counts[i]`` says how often ``i`` occurs.
    """

    many: int
    mean: float
    percentiles: dict[int, int]
    greatest: int
    counts: list[int]

    @classmethod
    def of(cls, counts: np.ndarray) -> Distribution:
        """That of which ``counts[i]`` are equal to ``i``."""
        many = int(counts.sum())
        if not many:
            return cls(0, 0.0, dict.fromkeys(PERCENTILES, 0), 0, [])
        upto = np.cumsum(counts)
        greatest = int(np.flatnonzero(counts)[-1])
        return cls(
            many=many,
            mean=float(counts @ np.arange(len(counts))) / many,
            percentiles={
                share: int(np.searchsorted(upto, many * share / 100)) for share in PERCENTILES
            },
            greatest=greatest,
            counts=counts[: greatest + 1].tolist(),
        )


class SplitStats(msgspec.Struct, frozen=True):
    """A split in numbers.

    ``repeated`` dialogues say what an earlier one of the split says, ``leaked`` ones what one of a
    later split (validation, test) says. ``with_roles`` come from files that say who speaks.
    """

    dialogues: int
    with_roles: int
    utterances: Distribution
    characters: Distribution
    characters_an_utterance: Distribution
    repeated: int
    leaked: int


class Padding(msgspec.Struct, frozen=True):
    """A way to lay sequences in rows, and the share of the positions that hold a token."""

    scheme: str
    useful: float


class TokenStats(msgspec.Struct, frozen=True):
    """The training split as tokens. ``target_share`` of them bear a loss."""

    base: str
    max_length: int
    sequences: Distribution
    tokens: int
    target_share: float
    cut: dict[str, int]
    padding: tuple[Padding, ...]


class _Counts:
    """How often each whole number occurs, for numbers that come in batches."""

    def __init__(self) -> None:
        self.counts = np.zeros(1, np.int64)

    def add(self, values: np.ndarray) -> None:
        found = np.bincount(values, minlength=len(self.counts))
        found[: len(self.counts)] += self.counts
        self.counts = found

    def distribution(self) -> Distribution:
        return Distribution.of(self.counts)


def dataset_stats(
    dataset: PreparedDataset, on_progress: OnProgress = unheard
) -> dict[str, SplitStats]:
    """Every split in numbers. ``on_progress`` gets (dialogues done, dialogues in all)."""
    total = dataset.manifest.dialogues
    splits = {name: dataset.split(name) for name in SPLITS}
    digests: list[np.ndarray] = []
    measured: list[tuple[_Counts, _Counts, _Counts, int]] = []
    done = 0
    for dialogues in splits.values():
        utterances, characters, each = _Counts(), _Counts(), _Counts()
        with_roles = 0
        for batch in dialogues.batches():
            lengths, turns = _lengths(batch)
            each.add(lengths)
            utterances.add(turns)
            characters.add(np.add.reduceat(lengths, np.cumsum(turns) - turns))
            with_roles += batch.column("has_roles").true_count
            digests.append(_digests(batch))
            done += batch.num_rows
            on_progress(done, total)
        measured.append((utterances, characters, each, with_roles))
    repeated, leaked = _redundant(digests, splits)
    return {
        name: SplitStats(
            dialogues=len(splits[name]),
            with_roles=with_roles,
            utterances=utterances.distribution(),
            characters=characters.distribution(),
            characters_an_utterance=each.distribution(),
            repeated=repeated[code],
            leaked=leaked[code],
        )
        for code, (name, (utterances, characters, each, with_roles)) in enumerate(
            zip(SPLITS, measured, strict=True)
        )
    }


def token_stats(files: TokenFiles, base: str, max_length: int) -> TokenStats:
    """The sequences of ``files`` in numbers; ``max_length`` is what they were cut to."""
    lengths, report = files.lengths(), files.report
    return TokenStats(
        base=base,
        max_length=max_length,
        sequences=Distribution.of(np.bincount(lengths)),
        tokens=report.tokens,
        target_share=report.target_tokens / max(1, report.tokens),
        cut={name: count for name, count in report.cut.items() if count and name != "nothing"},
        padding=tuple(paddings(lengths, max_length)),
    )


def paddings(lengths: np.ndarray, max_length: int) -> Iterator[Padding]:
    """What each way of batching sequences of these lengths makes of its positions."""
    if not len(lengths):
        return
    tokens = int(lengths.sum())
    yield Padding("end to end, as `train` does", 1.0)
    by_length = np.sort(lengths)
    shuffled = np.random.default_rng(SEED).permutation(lengths)
    for scheme, ordered, sizes in (
        ("batches of {} of like length", by_length, SORTED_BATCHES),
        ("random batches of {}", shuffled, RANDOM_BATCHES),
    ):
        for size in sizes:
            yield Padding(scheme.format(size), tokens / _padded(ordered, size))
    yield Padding(f"all to {max_length} tokens", tokens / (max_length * len(lengths)))


def _padded(lengths: np.ndarray, size: int) -> int:
    """Positions of batches of ``size`` in this order, each padded to its longest."""
    starts = np.arange(0, len(lengths), size)
    longest = np.maximum.reduceat(lengths, starts)
    rows = np.minimum(size, len(lengths) - starts)
    return int(longest @ rows)


def _lengths(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """Characters of each utterance, and utterances of each dialogue."""
    import pyarrow.compute as pc

    column = batch.column("dialog")
    characters = numbers(pc.utf8_length(column.flatten()))
    return characters, numbers(pc.list_value_length(column))


def _digests(batch: pa.RecordBatch) -> np.ndarray:
    """Eight bytes of a hash of what each dialogue says."""
    hashes = (
        hashlib.blake2b(dialogue.said(), digest_size=8).digest() for dialogue in dialogues_of(batch)
    )
    return np.frombuffer(b"".join(hashes), np.uint64)


def _redundant(
    digests: Sequence[np.ndarray], splits: dict[str, Dialogues]
) -> tuple[list[int], list[int]]:
    """How many dialogues of each split are repeated in it, and leaked into it."""
    many = [len(dialogues) for dialogues in splits.values()]
    codes = np.repeat(np.arange(len(many)), many)
    groups = np.concatenate([*digests, np.empty(0, np.uint64)])
    repeats, _ = first_of_each(groups, codes, across=False)
    _, leaks = first_of_each(groups, codes, within=False)
    repeated, leaked = (
        [int(np.count_nonzero(chosen[codes == code])) for code in range(len(many))]
        for chosen in (repeats, leaks)
    )
    return repeated, leaked
