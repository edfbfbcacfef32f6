"""Which dialogues of the shards are there already: equal ones, nearly equal ones, and leaks.

Dialogues are equal that say the same, also where one file tells who speaks and another does not.
What is decided depends on the content of the dialogues, on the splits that files give them, and
among equal ones on the order of the input; never on how the work was divided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.data.arrow import dialogues_of
from training.data.dialogue import Dialogue
from training.data.groups import Pairs, clusters, first_of_each
from training.data.likeness import likeness
from training.data.report import EXAMPLES, CleaningReport, Rule, Sample, shown
from training.data.rules import DialogueRules
from training.data.shards import read_shard
from training.data.workers import Workers

if TYPE_CHECKING:
    import pyarrow as pa

PAIRS_A_TASK = 10_000

# What a dialogue is dropped by, as the elements of ``dropped_by`` count; 0 is by nothing.
REASONS = ("", "duplicates", "near_duplicates", "leaks")
_DUPLICATES, _NEAR, _LEAKS = 1, 2, 3


def dropped_by(
    paths: Sequence[Path],
    splits: np.ndarray,
    rules: DialogueRules,
    workers: Workers,
    on_progress: Callable[[float], None],
) -> np.ndarray:
    """For each dialogue of the shards at ``paths``, in their order, an index into ``REASONS``.

    ``splits`` are their splits as indices into ``SPLITS``. ``on_progress`` gets the share that is
    done.
    """
    reasons = np.zeros(len(splits), np.int8)
    within = rules.duplicates or rules.near_duplicates > 0
    if not len(splits) or not (within or rules.leaks):
        return reasons
    said = np.concatenate([read_shard(path).column("said").to_numpy() for path in paths])
    repeats, leaks = first_of_each(said, splits, within=within, across=rules.leaks)
    reasons[repeats], reasons[leaks] = _DUPLICATES, _LEAKS
    if rules.near_duplicates > 0:
        kept = np.flatnonzero(reasons == 0)
        rank = said[kept]
        alike = partial(_are_alike, Rows(paths), kept, rules.near_duplicates, workers)
        groups = clusters(_bands(paths, kept, on_progress), rank, alike)
        repeats, leaks = first_of_each(groups, splits[kept], tie=rank, across=rules.leaks)
        reasons[kept[repeats]], reasons[kept[leaks]] = _NEAR, _LEAKS
    return reasons


def with_dropped(
    report: CleaningReport, reasons: np.ndarray, changed: int, paths: Sequence[Path]
) -> CleaningReport:
    """``report`` with the dialogues that ``reasons`` drop; ``changed`` of the rest were changed."""
    rows = Rows(paths)
    rules = []
    for rule in report.rules:
        chosen = np.flatnonzero(reasons == REASONS.index(rule.name)) if rule.name in REASONS else ()
        examples = (rows[int(index)] for index in islice(chosen, EXAMPLES))
        found = Rule(
            rule.name,
            rule.description,
            dialogues_dropped=len(chosen),
            examples=tuple(Sample(shown(example.utterances)) for example in examples),
        )
        rules.append(rule.plus(found))
    dropped = int(np.count_nonzero(reasons))
    return CleaningReport(
        version=report.version,
        read=report.read,
        kept=report.kept - dropped,
        changed=changed,
        dropped=report.dropped + dropped,
        rules=tuple(rules),
    )


class Rows:
    """The dialogues of several shards by their place in all of them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._ends = np.cumsum([read_shard(path).num_rows for path in paths])
        self._open: dict[int, pa.RecordBatch] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": {}}  # a process opens its own

    def __getitem__(self, index: int) -> Dialogue:
        shard = int(np.searchsorted(self._ends, index, side="right"))
        if shard not in self._open:
            self._open[shard] = read_shard(self._paths[shard])
        batch = self._open[shard]
        (dialogue,) = dialogues_of(batch.slice(index - int(self._ends[shard]) + batch.num_rows, 1))
        return dialogue


class _Comparison(NamedTuple):
    """Pairs to be compared in one go."""

    rows: Rows
    pairs: Pairs
    threshold: float


def _compare(comparison: _Comparison) -> np.ndarray:
    rows, pairs, threshold = comparison
    found = {index: rows[index] for index in np.unique(pairs).tolist()}
    return np.array(
        [likeness(found[one], found[other]) >= threshold for one, other in pairs.tolist()], bool
    )


def _are_alike(
    rows: Rows, kept: np.ndarray, threshold: float, workers: Workers, pairs: Pairs
) -> np.ndarray:
    """For each of ``pairs``, which are indices into ``kept``, whether it is alike enough."""
    tasks = (
        _Comparison(rows, kept[pairs[start : start + PAIRS_A_TASK]], threshold)
        for start in range(0, len(pairs), PAIRS_A_TASK)
    )
    return np.concatenate(list(workers.in_order(_compare, tasks)))


def _bands(
    paths: Sequence[Path], kept: np.ndarray, on_progress: Callable[[float], None]
) -> Iterator[np.ndarray]:
    """The keys of the dialogues ``kept``, band by band."""
    many = read_shard(paths[0]).column("bands").type.list_size
    for band in range(many):
        keys = [
            read_shard(path).column("bands").flatten().to_numpy().reshape(-1, many)[:, band]
            for path in paths
        ]
        yield np.concatenate(keys)[kept]
        on_progress((band + 1) / many)
