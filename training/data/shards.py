"""Shards: what a preparation has read so far, in pieces that are complete or absent.

They lie in a hidden directory beside the dataset to be and outlive a preparation that is stopped,
so that the next one with the same input goes on from there. A shard is an Arrow file with the
cleaned dialogues of some consecutive records, and a report, which is written last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from training.data.arrow import dialogue_schema
from training.data.clean import Cleaner
from training.data.dialogue import Dialogue, RawDialogue
from training.data.likeness import Banding, band_keys
from training.data.report import CleaningReport
from training.data.rules import LoadedRules
from training.data.split import SPLITS, position

if TYPE_CHECKING:
    import pyarrow as pa

RECORDS_PER_SHARD = 10_000


class ShardReport(msgspec.Struct, frozen=True):
    """What came of the records of one shard."""

    records: int
    cleaning: CleaningReport


class ShardTask(NamedTuple):
    """Consecutive records of a file, to become the shard at ``path``, each with its split."""

    path: Path
    dialogues: Sequence[RawDialogue]
    splits: Sequence[str]
    pre_spaced: bool
    seed: int
    rules: LoadedRules

    @property
    def banding(self) -> Banding | None:
        """How near duplicates are found, if they are."""
        threshold = self.rules.rules.dialogues.near_duplicates
        return Banding.for_threshold(threshold) if threshold else None


def shard_schema(banding: Banding | None) -> pa.Schema:
    """A split's columns and what the rest of the preparation goes by.

    ``split`` is an index into ``SPLITS``, ``digest`` the SHA-256 of the dialogue's canonical bytes,
    ``said`` the beginning of the SHA-256 of what is said in it, ``position`` its place in the draw,
    ``characters`` the length of its utterances together, ``changed`` whether cleaning changed it,
    ``bands`` the keys by which near duplicates are found.
    """
    import pyarrow as pa

    schema = dialogue_schema()
    for name, kind in (
        ("split", pa.int8()),
        ("digest", pa.binary(32)),
        ("said", pa.uint64()),
        ("position", pa.float64()),
        ("characters", pa.int64()),
        ("changed", pa.bool_()),
        *([("bands", pa.list_(pa.uint32(), banding.bands))] if banding else []),
    ):
        schema = schema.append(pa.field(name, kind))
    return schema


def make_shard(task: ShardTask) -> ShardReport:
    """Clean the dialogues of ``task`` and write them with their report."""
    task.path.with_suffix(".json").unlink(missing_ok=True)
    cleaner = Cleaner(task.rules)
    kept: list[_Kept] = []
    for raw, split in zip(task.dialogues, task.splits, strict=True):
        dialogue = cleaner.clean(raw, pre_spaced=task.pre_spaced)
        if dialogue is not None:
            before = list(raw.utterances), raw.system
            is_changed = (dialogue.utterances, dialogue.system) != before
            kept.append(_Kept(dialogue, SPLITS.index(split), is_changed))
    _write(task, kept)
    report = ShardReport(len(task.dialogues), cleaner.report())
    staged = task.path.with_suffix(".tmp")
    staged.write_bytes(msgspec.json.encode(report))
    staged.replace(task.path.with_suffix(".json"))
    return report


class _Kept(NamedTuple):
    """A dialogue that goes into a shard."""

    dialogue: Dialogue
    split: int
    is_changed: bool


def _write(task: ShardTask, kept: Sequence[_Kept]) -> None:
    import pyarrow as pa

    dialogues = [one.dialogue for one in kept]
    digests = [_sha256(dialogue.canonical()) for dialogue in dialogues]
    columns = {
        "dialog": [dialogue.utterances for dialogue in dialogues],
        "system": [dialogue.system for dialogue in dialogues],
        "has_roles": [dialogue.has_roles for dialogue in dialogues],
        "split": [one.split for one in kept],
        "digest": digests,
        "said": [
            int.from_bytes((_sha256(one.said()) if one.has_roles else digest)[:8])
            for one, digest in zip(dialogues, digests, strict=True)
        ],
        "position": [position(dialogue.utterances, task.seed) for dialogue in dialogues],
        "characters": [dialogue.characters for dialogue in dialogues],
        "changed": [one.is_changed for one in kept],
    }
    if task.banding:
        keys = band_keys(dialogues, task.banding)
        columns["bands"] = pa.FixedSizeListArray.from_arrays(keys.reshape(-1), task.banding.bands)
    schema = shard_schema(task.banding)
    batch = pa.RecordBatch.from_pydict(columns, schema=schema)
    with task.path.open("wb") as file:
        with pa.ipc.new_stream(file, schema) as stream:
            stream.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def shard_report(path: Path) -> ShardReport | None:
    """The report of the shard at ``path`` if it is complete, else ``None``."""
    try:
        return msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=ShardReport)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def read_shard(path: Path) -> pa.RecordBatch:
    """All rows of a complete shard, with :func:`shard_schema`'s columns."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
        return stream.read_next_batch()
