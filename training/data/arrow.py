"""Dialogues in Arrow files (IPC streams), one file a split: written in batches, read as a mapping.

The one module that uses pyarrow, with ``training.data.shards``; it is imported when first needed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from training.data.dialogue import Dialogue
from training.data.manifest import LENGTH_CLASS_CHARACTERS, SplitCounts

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

BATCH_DIALOGUES = 2000


def dialogue_schema() -> pa.Schema:
    """A split's columns: ``dialog`` as in LCCC on the Hub, and what only some dialogues have."""
    import pyarrow as pa

    return pa.schema(
        [
            ("dialog", pa.list_(pa.string())),
            ("system", pa.string()),
            ("has_roles", pa.bool_()),
        ]
    )


class SplitWriter:
    """Writes one split and counts and hashes what it writes. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lengths: Counter[int] = Counter()
        self._sha256 = hashlib.sha256()
        self._dialogues = self._utterances = self._characters = 0

    def __enter__(self) -> Self:
        import pyarrow as pa

        self._arrow: Any = pa.ipc.new_stream(str(self._path), dialogue_schema())
        return self

    def __exit__(self, *_: object) -> None:
        self._arrow.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add dialogues with their ``digest`` and ``characters``, which are only counted."""
        if not batch.num_rows:
            return
        characters = batch.column("characters").to_numpy()
        classes = characters - characters % LENGTH_CLASS_CHARACTERS
        values, counts = np.unique(classes, return_counts=True)
        self._lengths.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        self._dialogues += batch.num_rows
        self._utterances += len(batch.column("dialog").flatten())
        self._characters += int(characters.sum())
        self._sha256.update(b"".join(batch.column("digest").to_pylist()))
        self._arrow.write_batch(batch.select(dialogue_schema().names))

    def counts(self) -> SplitCounts:
        """What was written so far."""
        return SplitCounts(
            dialogues=self._dialogues,
            utterances=self._utterances,
            characters=self._characters,
            sha256=self._sha256.hexdigest(),
            lengths=dict(sorted(self._lengths.items())),
        )


class Dialogues(Sequence[Dialogue]):
    """The dialogues of a split, read from the disk when asked for."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.path = path
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            self._table: pa.Table = stream.read_all()

    @property
    def dataset(self) -> Dataset:
        """The same as a ``datasets.Dataset``."""
        from datasets import Dataset

        return Dataset.from_file(str(self.path))

    def __len__(self) -> int:
        return self._table.num_rows

    @overload
    def __getitem__(self, index: int) -> Dialogue: ...
    @overload
    def __getitem__(self, index: slice) -> list[Dialogue]: ...
    def __getitem__(self, index: int | slice) -> Dialogue | list[Dialogue]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return list(self.between(start, stop))
            return [self[at] for at in range(start, stop, step)]
        at = range(len(self))[index]
        (dialogue,) = self.between(at, at + 1)
        return dialogue

    def __iter__(self) -> Iterator[Dialogue]:
        return self.between(0, len(self))

    def between(self, start: int, stop: int) -> Iterator[Dialogue]:
        """Those from ``start`` up to and without ``stop``, in batches from the disk."""
        for batch in self.batches(start, stop):
            yield from dialogues_of(batch)

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of these as Arrow has them, some at a time."""
        end = len(self) if stop is None else stop
        for at in range(start, end, BATCH_DIALOGUES):
            yield from self._table.slice(at, min(BATCH_DIALOGUES, end - at)).to_batches()


def numbers(column: pa.Array) -> np.ndarray:
    """The numbers of a column without nulls, where they lie.

    Arrow's own ``to_numpy`` first imports pandas, which takes longer than what is read here.
    """
    return np.from_dlpack(column)


def dialogues_of(batch: pa.RecordBatch) -> Iterator[Dialogue]:
    """The rows of ``batch`` as dialogues."""
    column = batch.column("dialog")
    texts = column.flatten().to_pylist()
    offsets = numbers(column.offsets)
    offsets = (offsets - offsets[0]).tolist()
    systems = batch.column("system").to_pylist()
    has_roles = batch.column("has_roles").to_pylist()
    for index, (system, given) in enumerate(zip(systems, has_roles, strict=True)):
        yield Dialogue(texts[offsets[index] : offsets[index + 1]], system, given)
