"""Dialogues in Arrow files, one file a split: written in batches, read lazily from the disk.

The one module that uses the ``datasets`` library; it is imported when first needed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

import msgspec

from training.data.manifest import LENGTH_CLASS_CHARACTERS, SplitCounts

if TYPE_CHECKING:
    from datasets import Dataset

COLUMN = "dialog"
BATCH_DIALOGUES = 2000


class SplitWriter:
    """Writes one split and counts and hashes what it writes. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._batch: list[list[str]] = []
        self._lengths: Counter[int] = Counter()
        self._sha256 = hashlib.sha256()
        self._dialogues = self._utterances = self._characters = 0

    def __enter__(self) -> Self:
        from datasets import Features, List, Value
        from datasets.arrow_writer import ArrowWriter

        features = Features({COLUMN: List(Value("string"))})
        self._arrow: Any = ArrowWriter(path=str(self._path), features=features)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._flush()
            self._arrow.finalize()
        else:
            self._arrow.close()

    def write(self, utterances: Sequence[str]) -> None:
        utterances = list(utterances)
        characters = sum(map(len, utterances))
        self._dialogues += 1
        self._utterances += len(utterances)
        self._characters += characters
        self._lengths[characters - characters % LENGTH_CLASS_CHARACTERS] += 1
        self._sha256.update(msgspec.json.encode(utterances) + b"\n")
        self._batch.append(utterances)
        if len(self._batch) == BATCH_DIALOGUES:
            self._flush()

    def counts(self) -> SplitCounts:
        """What was written so far."""
        return SplitCounts(
            dialogues=self._dialogues,
            utterances=self._utterances,
            characters=self._characters,
            sha256=self._sha256.hexdigest(),
            lengths=dict(sorted(self._lengths.items())),
        )

    def _flush(self) -> None:
        if self._batch:
            self._arrow.write_batch({COLUMN: self._batch})
            self._batch = []


class Dialogues(Sequence[list[str]]):
    """The dialogues of a split, each a list of utterances, read from the disk when asked for."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    @classmethod
    def open(cls, path: Path) -> Dialogues:
        from datasets import Dataset

        return cls(Dataset.from_file(str(path)))

    @property
    def dataset(self) -> Dataset:
        """The same as a ``datasets.Dataset`` with the one column ``dialog``."""
        return self._dataset

    def __len__(self) -> int:
        return self._dataset.num_rows

    @overload
    def __getitem__(self, index: int) -> list[str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[str]]: ...
    def __getitem__(self, index: int | slice) -> list[str] | list[list[str]]:
        return self._dataset[index][COLUMN]

    def __iter__(self) -> Iterator[list[str]]:
        for batch in self._dataset.iter(batch_size=BATCH_DIALOGUES):
            yield from batch[COLUMN]
