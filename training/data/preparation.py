"""A preparation at work: raw files become shards, shards become the splits of a dataset.

Memory holds some shards' dialogues at a time and a few numbers for each dialogue of the data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec
import numpy as np

from adapters.environment import processors
from training.data.arrow import SplitWriter
from training.data.clean import RULES_VERSION, Cleaner
from training.data.duplicates import dropped_by, with_dropped
from training.data.manifest import DatasetManifest, InputRef, SplitCounts
from training.data.reader import DialogueReader, Record
from training.data.report import CleaningReport
from training.data.rules import LoadedRules
from training.data.shards import (
    RECORDS_PER_SHARD,
    ShardTask,
    make_shard,
    read_shard,
    shard_report,
)
from training.data.split import SPLITS, Shares
from training.data.text import SAMPLE_DIALOGUES, has_halves, looks_pre_spaced
from training.data.workers import Workers
from training.errors import DataError
from training.stages import OnProgress

if TYPE_CHECKING:
    import pyarrow as pa

# Writing the splits takes about a quarter of the time that reading and cleaning takes.
_WRITE_SHARE = 4

# Processes take a moment to start: less input than this is read in the one that is here.
BYTES_WORTH_PROCESSES = 8_000_000


class Source(msgspec.Struct, frozen=True):
    """A raw file by content; ``given_as`` is the split it was named for.

    ``modified`` is the file's time in nanoseconds.
    """

    path: Path
    size: int
    sha256: str
    modified: int
    given_as: str | None = None

    @classmethod
    def of(cls, path: Path, given_as: str | None = None) -> Source:
        """Hash the file at ``path``.

        Raises:
            DataError: it cannot be read, or is a pipe.
        """
        try:
            if path.is_fifo():  # to open one may wait for ever
                _refuse_pipe(path)
            with path.open("rb") as file:
                modified = path.stat().st_mtime_ns
                digest = hashlib.file_digest(file, "sha256")
                return cls(path, file.tell(), digest.hexdigest(), modified, given_as)
        except OSError as error:
            raise DataError(f"cannot be opened: {error.strerror}", file=path) from error


class Job(msgspec.Struct, frozen=True):
    """What a dataset is made of and how."""

    name: str
    sources: tuple[Source, ...]
    shares: Shares
    seed: int
    rules: LoadedRules

    @property
    def key(self) -> str:
        """Hex; equal for jobs whose shards are the same."""
        sources = [[source.sha256, source.given_as] for source in self.sources]
        cleaning = [RULES_VERSION, self.rules.cleaning_sha256]
        likeness = self.rules.rules.dialogues.near_duplicates
        content = [cleaning, likeness, RECORDS_PER_SHARD, self.seed, sources]
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]


class Preparation:
    """One pass over the raw files, then the draw of the splits that no file provides.

    ``shards`` is the directory where shards lie, perhaps of an earlier attempt at the same job.
    """

    def __init__(
        self, job: Job, shards: Path, on_progress: OnProgress, processes: int | None
    ) -> None:
        self._job = job
        self._shards = shards
        self._on_progress = on_progress
        size = sum(source.size for source in job.sources)
        self._size = max(1, size)
        worthwhile = processors() if size >= BYTES_WORTH_PROCESSES else 1
        self._workers = Workers(worthwhile if processes is None else processes)

    @property
    def done_before(self) -> int:
        """How many records an earlier attempt has read already."""
        reports = map(shard_report, self._shards.glob("*.json"))
        return sum(report.records for report in reports if report)

    def run(self, target: Path) -> DatasetManifest:
        """Write the splits into ``target``; its manifest is returned, not written.

        Raises:
            DataError: a file is malformed, or nothing is left to train on.
        """
        with self._workers:
            inputs = [self._read(index) for index in range(len(self._job.sources))]
            paths = [path.with_suffix(".arrow") for path in sorted(self._shards.glob("*.json"))]
            splits = _column(paths, "split")
            reasons = dropped_by(
                paths, splits, self._job.rules.rules.dialogues, self._workers, self._report_compared
            )
        cleaning = self._cleaning(paths, reasons)
        drawn, counts = self._write_splits(paths, splits, reasons == 0, target)
        if counts["train"].dialogues == 0:
            raise DataError(
                f"nothing is left to train on: {cleaning.read} dialogues were read, "
                f"{cleaning.dropped} dropped{_reasons(cleaning)}, "
                f"{cleaning.kept} kept for validation and test"
            )
        self._report(1, 1, 1)
        return DatasetManifest(
            name=self._job.name,
            inputs=tuple(inputs),
            splits=counts,
            cleaning=cleaning,
            rules=self._job.rules.rules,
            word_lists=self._job.rules.word_lists,
            seed=self._job.seed,
            validation_share=self._job.shares.validation,
            test_share=self._job.shares.test,
            drawn=drawn,
            sha256=_content_sha256(counts),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _report(self, read: float, compared: float, written: float) -> None:
        """Each as a share of its whole."""
        comparison = self._size if self._job.rules.rules.dialogues.near_duplicates else 0
        splits = self._size // _WRITE_SHARE
        done = read * self._size + compared * comparison + written * splits
        self._on_progress(int(done), self._size + comparison + splits)

    def _report_compared(self, compared: float) -> None:
        self._report(1, compared, 0)

    def _cleaning(self, paths: Sequence[Path], reasons: np.ndarray) -> CleaningReport:
        """The report on all shards and on what is dropped of them for ``reasons``."""
        cleaning = Cleaner(self._job.rules).report()
        for path in paths:
            report = shard_report(path)
            cleaning = cleaning.plus(report.cleaning) if report else cleaning
        changed = int(np.count_nonzero(_column(paths, "changed")[reasons == 0]))
        return with_dropped(cleaning, reasons, changed, paths)

    def _read(self, index: int) -> InputRef:
        """Turn the file ``index`` into shards, but for those that are there already."""
        source = self._job.sources[index]
        before = sum(earlier.size for earlier in self._job.sources[:index])
        with DialogueReader(source.path) as reader:
            sample = [record.dialogue for record in islice(reader, SAMPLE_DIALOGUES)]
        pre_spaced = looks_pre_spaced(raw.utterances for raw in sample)
        with DialogueReader(source.path) as reader:
            tasks = self._tasks(reader, index, pre_spaced)
            for _ in self._workers.in_order(make_shard, tasks):
                self._report((before + reader.bytes_read) / self._size, 0, 0)
        if source.path.stat().st_mtime_ns != source.modified:
            raise DataError("was changed while it was read; begin again", file=source.path)
        return InputRef(source.path.name, source.size, source.sha256, pre_spaced, source.given_as)

    def _tasks(self, reader: DialogueReader, index: int, pre_spaced: bool) -> Iterator[ShardTask]:
        """The shards of a file that are still to be made."""
        source = self._job.sources[index]
        number = done = 0
        while (report := shard_report(self._path(index, number))) is not None:
            number, done = number + 1, done + report.records
        records = reader.records(skip=done)
        while chunk := list(islice(records, RECORDS_PER_SHARD)):
            if source.given_as and any(record.split for record in chunk):
                message = f"brings its own splits, so it cannot be given as {source.given_as}"
                raise DataError(message, file=source.path)
            if not self._job.rules.rules.text.control:
                _refuse_halves(chunk, source.path)
            yield ShardTask(
                path=self._path(index, number),
                dialogues=[record.dialogue for record in chunk],
                splits=[source.given_as or record.split or "train" for record in chunk],
                pre_spaced=pre_spaced,
                seed=self._job.seed,
                rules=self._job.rules,
            )
            number += 1

    def _path(self, index: int, number: int) -> Path:
        """Where shard ``number`` of file ``index`` lies; shards sort in the order of the input."""
        return self._shards / f"{index:04}-{number:06}.arrow"

    def _write_splits(
        self, paths: Sequence[Path], splits: np.ndarray, kept: np.ndarray, target: Path
    ) -> tuple[tuple[str, ...], dict[str, SplitCounts]]:
        """Write the dialogues that are ``kept``, each into the file of its split.

        Those that no file provides are drawn from the training dialogues; they are named first.
        """
        drawn = tuple(split for code, split in enumerate(SPLITS) if code and code not in splits)
        in_train = kept & (splits == 0)
        positions = _column(paths, "position")[in_train]
        shares = Shares(
            validation=self._job.shares.validation if "validation" in drawn else 0,
            test=self._job.shares.test if "test" in drawn else 0,
        ).holding_out_one(positions)
        splits[in_train] = shares.codes_of(positions)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(SplitWriter(target / f"{split}.arrow")) for split in SPLITS
            ]
            done = 0
            for path in paths:
                batch = read_shard(path)
                part = slice(done, done + batch.num_rows)
                for code, writer in enumerate(writers):
                    writer.write(batch.filter(_mask(kept[part] & (splits[part] == code))))
                done += batch.num_rows
                self._report(1, 1, done / max(1, len(splits)))
        return drawn, {
            split: writer.counts() for split, writer in zip(SPLITS, writers, strict=True)
        }


def _refuse_pipe(path: Path) -> NoReturn:
    message = "a pipe, which can be read only once; write it to a file first and give that"
    raise DataError(message, file=path)


def _refuse_halves(records: Sequence[Record], file: Path) -> None:
    """No file can hold half of a surrogate pair; the rule that removes them is off."""
    for record in records:
        if any(map(has_halves, [*record.dialogue.utterances, record.dialogue.system or ""])):
            message = "half of a surrogate pair (\\ud800 to \\udfff), which cannot be stored"
            raise DataError(
                f"{message}; mend the record, or let text.control=true remove it",
                file=file,
                record=record.number,
            )


def _reasons(cleaning: CleaningReport) -> str:
    counts = ((rule.name, rule.dialogues_dropped) for rule in cleaning.rules)
    told = ", ".join(f"{name} {count}" for name, count in counts if count)
    return f" ({told})" if told else ""


def _column(paths: Sequence[Path], name: str) -> np.ndarray:
    """A column of all shards in one."""
    columns = [read_shard(path).column(name).to_numpy(zero_copy_only=False) for path in paths]
    return np.concatenate(columns) if columns else np.empty(0)


def _mask(chosen: np.ndarray) -> pa.Array:
    import pyarrow as pa

    return pa.array(chosen)


def _content_sha256(counts: dict[str, SplitCounts]) -> str:
    lines = "".join(f"{split} {counts[split].sha256}\n" for split in SPLITS)
    return hashlib.sha256(lines.encode()).hexdigest()
