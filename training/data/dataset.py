"""Prepared datasets: raw files become a directory ``<datasets>/<name>`` that is complete or absent.

Inside lie ``manifest.json`` and one Arrow file a split.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path

from training.data import clean, roles
from training.data.arrow import Dialogues, SplitWriter
from training.data.lccc import DialogueReader
from training.data.manifest import (
    MANIFEST_FILE,
    DatasetManifest,
    InputRef,
    SplitCounts,
    read_manifest,
)
from training.data.split import SPLITS, Shares, position
from training.errors import DataError, DatasetNotFound

__all__ = ["DatasetManifest", "PreparedDataset", "known_datasets", "prepare"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REPORT_EVERY = 1000

# Reading the raw files is about four fifths of the work; the draw of the splits is the rest.
_DRAW_SHARE = 4

OnProgress = Callable[[int, int], None]


class PreparedDataset:
    """A dataset on disk."""

    def __init__(self, path: Path, manifest: DatasetManifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, datasets_root: Path, name: str) -> PreparedDataset:
        """The dataset called ``name``.

        Raises:
            DatasetNotFound: there is none; the message lists those there are.
            DataError: it is damaged.
        """
        path = datasets_root / name
        if not _NAME.fullmatch(name) or not (path / MANIFEST_FILE).is_file():
            raise DatasetNotFound(name, known_datasets(datasets_root))
        return cls(path, read_manifest(path))

    @property
    def name(self) -> str:
        return self.path.name

    def split(self, name: str) -> Dialogues:
        """The dialogues of ``train``, ``validation`` or ``test``, read lazily; may be empty.

        Raises:
            DataError: no such split, or its file is gone.
        """
        path = self.path / f"{name}.arrow"
        if name not in SPLITS or not path.is_file():
            raise DataError(f"the dataset has no split '{name}'", file=self.path)
        return Dialogues.open(path)


def known_datasets(datasets_root: Path) -> list[str]:
    """The names of the prepared datasets, sorted."""
    return sorted(
        path.parent.name
        for path in datasets_root.glob(f"*/{MANIFEST_FILE}")
        if _NAME.fullmatch(path.parent.name)
    )


def prepare(  # noqa: PLR0913 - the options of the command, by name
    files: Sequence[Path],
    name: str,
    datasets_root: Path,
    *,
    valid: Path | None = None,
    test: Path | None = None,
    seed: int = 0,
    validation_share: float = 0.01,
    test_share: float = 0.01,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> PreparedDataset:
    """Read, clean, split and store the dialogues of ``files`` as the dataset ``name``.

    A split that neither ``valid``, ``test`` nor a file with its own splits provides is drawn from
    the training dialogues by its share. ``on_progress`` gets (done, total) in bytes of input.

    Raises:
        DataError: a file or option cannot be used. Nothing is left behind then, and an older
            dataset of that name stays as it was.
    """
    _check_name(name)
    target = datasets_root / name
    if target.exists() and not overwrite:
        raise DataError(
            f"a dataset '{name}' is there already; --overwrite replaces it", file=target
        )
    shares = Shares(validation=validation_share, test=test_share)
    sources: list[tuple[Path, str | None]] = [(file, None) for file in files]
    sources += [(file, split) for file, split in ((valid, "validation"), (test, "test")) if file]
    with _staged(target, overwrite) as stage:
        preparation = _Preparation(stage, sources, shares, seed, on_progress)
        preparation.run(name).write(stage)
    return PreparedDataset.open(datasets_root, name)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise DataError(
            f"'{name}' cannot name a dataset: use up to 128 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )


def _check_free(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise DataError("this dataset is there already; --overwrite replaces it", file=target)


@contextmanager
def _staged(target: Path, overwrite: bool) -> Iterator[Path]:
    """A directory beside ``target`` that becomes it at the end, or vanishes on any failure."""
    stage = target.parent / f".{target.name}.{secrets.token_hex(4)}.new"
    try:
        stage.mkdir(parents=True)
        yield stage
        _check_free(target, overwrite)
        _swap_in(stage, target)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", file=target) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _swap_in(stage: Path, target: Path) -> None:
    old = stage.with_suffix(".old")
    with suppress(FileNotFoundError):
        target.rename(old)
    try:
        stage.rename(target)
    except OSError:
        with suppress(FileNotFoundError):
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


class _Preparation:
    """One pass over the raw files, then the draw of the splits that no file provides."""

    def __init__(
        self,
        stage: Path,
        sources: Sequence[tuple[Path, str | None]],
        shares: Shares,
        seed: int,
        on_progress: OnProgress | None,
    ) -> None:
        self._stage = stage
        self._sources = sources
        self._shares = shares
        self._seed = seed
        self._on_progress = on_progress or (lambda _done, _total: None)
        self._cleaner = clean.Cleaner()
        self._sizes = [_size(path) for path, _ in sources]

    def run(self, name: str) -> DatasetManifest:
        inputs, counts = self._read_all()
        drawn = tuple(split for split in SPLITS[1:] if counts[split].dialogues == 0)
        if drawn:
            counts |= self._draw(drawn)
        cleaning = self._cleaner.report()
        if counts["train"].dialogues == 0:
            raise DataError(
                f"nothing is left to train on: {cleaning.read} dialogues were read, "
                f"{cleaning.dropped} had fewer than {clean.MIN_UTTERANCES} utterances, "
                f"{cleaning.kept} were kept for validation and test"
            )
        self._report(1, 1)
        return DatasetManifest(
            name=name,
            inputs=tuple(inputs),
            splits={split: counts[split] for split in SPLITS},
            cleaning=cleaning,
            role_policy=roles.POLICY,
            seed=self._seed,
            validation_share=self._shares.validation,
            test_share=self._shares.test,
            drawn=drawn,
            sha256=_content_sha256(counts),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _report(self, read: float, drawn: float) -> None:
        """Both as shares of their whole."""
        size = sum(self._sizes)
        done = read * size + drawn * (size // _DRAW_SHARE)
        self._on_progress(int(done), size + size // _DRAW_SHARE)

    @contextmanager
    def _writers(self, splits: Sequence[str]) -> Iterator[dict[str, SplitWriter]]:
        with ExitStack() as stack:
            yield {
                split: stack.enter_context(SplitWriter(self._stage / f"{split}.arrow"))
                for split in splits
            }

    def _read_all(self) -> tuple[list[InputRef], dict[str, SplitCounts]]:
        with self._writers(SPLITS) as writers:
            inputs = [
                self._read(path, given_as, sum(self._sizes[:index]), writers)
                for index, (path, given_as) in enumerate(self._sources)
            ]
        return inputs, {split: writer.counts() for split, writer in writers.items()}

    def _read(
        self, path: Path, given_as: str | None, before: int, writers: dict[str, SplitWriter]
    ) -> InputRef:
        with DialogueReader(path) as reader:
            records = iter(reader)
            sample = list(islice(records, clean.SAMPLE_DIALOGUES))
            pre_spaced = clean.looks_pre_spaced(record.utterances for record in sample)
            for count, record in enumerate(chain(sample, records)):
                if given_as and record.split:
                    message = f"brings its own splits, so it cannot be given as {given_as}"
                    raise DataError(message, file=path)
                if count % _REPORT_EVERY == 0:
                    self._report((before + reader.bytes_read) / max(1, sum(self._sizes)), 0)
                dialogue = self._cleaner.clean(record.utterances, pre_spaced=pre_spaced)
                if dialogue is not None:
                    writers[given_as or record.split or "train"].write(dialogue)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return InputRef(path.name, path.stat().st_size, sha256, pre_spaced, given_as)

    def _draw(self, drawn: Sequence[str]) -> dict[str, SplitCounts]:
        """Move dialogues of the training file into the splits ``drawn``."""
        undrawn = self._stage / "undrawn.arrow"
        (self._stage / "train.arrow").rename(undrawn)
        dialogues = Dialogues.open(undrawn)
        positions = array("d", (position(dialogue, self._seed) for dialogue in dialogues))
        shares = Shares(
            validation=self._shares.validation if "validation" in drawn else 0,
            test=self._shares.test if "test" in drawn else 0,
        ).holding_out_one(positions)
        with self._writers(("train", *drawn)) as writers:
            for count, (place, dialogue) in enumerate(zip(positions, dialogues, strict=True)):
                writers[shares.split_of(place)].write(dialogue)
                if count % _REPORT_EVERY == 0:
                    self._report(1, count / len(positions))
        undrawn.unlink()
        return {split: writer.counts() for split, writer in writers.items()}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot be opened: {error.strerror}", file=path) from error


def _content_sha256(counts: dict[str, SplitCounts]) -> str:
    lines = "".join(f"{split} {counts[split].sha256}\n" for split in SPLITS)
    return hashlib.sha256(lines.encode()).hexdigest()
