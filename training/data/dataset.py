"""Prepared datasets: raw files become a directory ``<datasets>/<name>`` that is complete or absent.

Inside lie ``manifest.json`` and one Arrow file a split.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.storage import directory_in_use, is_in_use
from training.data.arrow import Dialogues
from training.data.catalogue import DATASET_NAME, known_datasets
from training.data.manifest import MANIFEST_FILE, DatasetManifest, read_manifest
from training.data.preparation import Job, Preparation, Source
from training.data.rules import LoadedRules, read_rules
from training.data.split import SPLITS, Shares
from training.errors import DataError, DatasetNotFound
from training.stages import OnProgress, unheard

__all__ = ["DatasetManifest", "PreparedDataset", "known_datasets", "prepare"]


# A stage is locked a moment after it is made: what is younger may belong to someone who begins.
_BEGINNING_S = 60.0


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
        if not DATASET_NAME.fullmatch(name) or not (path / MANIFEST_FILE).is_file():
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
        return Dialogues(path)


def prepare(  # noqa: PLR0913 - the options of the command, by name
    files: Sequence[Path],
    name: str,
    datasets_root: Path,
    *,
    valid: Path | None = None,
    test: Path | None = None,
    rules: LoadedRules | None = None,
    seed: int = 0,
    validation_share: float = 0.01,
    test_share: float = 0.01,
    overwrite: bool = False,
    keeps: bool = True,
    processes: int | None = None,
    on_progress: OnProgress = unheard,
    say: Callable[[str], None] | None = None,
) -> PreparedDataset:
    """Read, clean, split and store the dialogues of ``files`` as the dataset ``name``.

    Without ``rules`` the default ones hold.
    A split that neither ``valid``, ``test`` nor a file with its own splits provides is drawn from
    the training dialogues by its share. ``on_progress`` gets (done, total) in bytes of input.
    Of ``processes``, as many work as the input is worth unless said otherwise.

    What was read is kept when the preparation is stopped, the machine fails or the disk is full;
    the next one with the same input goes on from there and ``say``s so. Without ``keeps``, nothing
    is left of one that ends in an exception.

    Raises:
        DataError: a file or option cannot be used, or the dataset cannot be written. An older one
            of that name stays as it was.
    """
    _check_name(name)
    target = datasets_root / name
    _sweep(target)
    _check_free(target, overwrite)
    shares = Shares(validation=validation_share, test=test_share)
    given = ((valid, "validation"), (test, "test"))
    sources = [Source.of(file) for file in files]
    sources += [Source.of(file, split) for file, split in given if file]
    job = Job(name, tuple(sources), shares, seed, rules or read_rules())
    with _part(target, job.key, keeps=keeps) as shards, _staged(target, overwrite) as stage:
        preparation = Preparation(job, shards, on_progress, processes)
        if say and preparation.done_before:
            say(f"Going on after {preparation.done_before:,} dialogues that were read before.")
        preparation.run(stage).write(stage)
    return PreparedDataset.open(datasets_root, name)


def _check_name(name: str) -> None:
    if not DATASET_NAME.fullmatch(name):
        raise DataError(
            f"'{name}' cannot name a dataset: use up to 128 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )


def _check_free(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise DataError("this dataset is there already; --overwrite replaces it", file=target)


def _sweep(target: Path) -> None:
    """Clear up after preparations of this name that were killed; those at work are left alone.

    A dataset that was set aside for another, which then could not take its place, has it again.
    """
    token = "[0-9a-f]" * 8
    for old in target.parent.glob(f".{target.name}.{token}.old"):
        stage = old.with_suffix(".new")
        if _is_abandoned(stage) or not stage.exists():
            with suppress(OSError):  # it cannot where the target is there, which is as well
                old.rename(target)
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)
    for stage in target.parent.glob(f".{target.name}.{token}.new"):
        if _is_abandoned(stage):
            shutil.rmtree(stage, ignore_errors=True)


def _is_abandoned(stage: Path) -> bool:
    """Whether nobody works on ``stage`` any more, and somebody once did."""
    try:
        return time.time() - stage.stat().st_mtime > _BEGINNING_S and not is_in_use(stage)
    except OSError:
        return False


@contextmanager
def _part(target: Path, key: str, *, keeps: bool) -> Iterator[Path]:
    """The directory of a preparation's shards, which goes when the dataset is there.

    It also goes when the input turns out to be wrong, and stays on any other failure if it
    ``keeps``. Those of other input for the same dataset are removed.
    """
    part = target.parent / f".{target.name}.{key}.part"
    if part.is_dir() and is_in_use(part):
        raise DataError("being prepared by another process from these files", file=target)
    for other in target.parent.glob(f".{target.name}.{'[0-9a-f]' * 16}.part"):
        if other != part and not is_in_use(other):
            shutil.rmtree(other, ignore_errors=True)
    try:
        part.mkdir(parents=True, exist_ok=True)
        with directory_in_use(part):
            yield part
    except OSError as error:
        left = (
            "What was read so far is kept; with that put right, the same command goes on from there"
        )
        if not keeps:
            shutil.rmtree(part, ignore_errors=True)
            left = "Nothing is left of this preparation; with that put right, begin it again"
        raise DataError(
            f"cannot be written: {error.strerror or error}. {left}", file=target
        ) from error
    except DataError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    except BaseException:
        if not keeps:
            shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _staged(target: Path, overwrite: bool) -> Iterator[Path]:
    """A directory beside ``target`` that becomes it at the end, or vanishes on any failure."""
    stage = target.parent / f".{target.name}.{secrets.token_hex(4)}.new"
    try:
        stage.mkdir(parents=True)
        with directory_in_use(stage):
            yield stage
            _check_free(target, overwrite)
            _swap_in(stage, target)
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
