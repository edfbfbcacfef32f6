"""Encoded splits on disk: flat files that are mapped into memory, made once for equal content.

``datasets/NAME/tokens/KEY/`` holds the tokens of all examples end to end (``tokens.bin``, uint32,
the highest bit set where the loss is), a row for each example (``examples.bin``), where each
dialogue's examples end (``dialogues.bin``, uint64), and ``manifest.json``, written last. The key is
a hash over everything that the tokens depend on, so that changed text, rules, tokenizer, template
or settings never meet old tokens. Numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, overload

import msgspec
import numpy as np

from adapters.storage import exclusive_lock
from training.data.encoded import CUTS, EXAMPLE, TARGET, Encoded
from training.data.example import EncodeReport, Example
from training.errors import DataError

# How many encodings of a dataset are kept: those used last.
KEPT = 6

_FILES = ("tokens.bin", "examples.bin", "dialogues.bin")
_DTYPES: tuple[np.dtype[Any], ...] = (np.dtype("<u4"), EXAMPLE, np.dtype("<u8"))


class TokensManifest(msgspec.Struct, frozen=True, tag_field="format", tag="lccc-tokens/1"):
    """What lies in a directory of tokens. ``content`` is all that its key is a hash of."""

    content: dict[str, Any]
    read: int
    sizes: tuple[int, int, int]
    report: EncodeReport


def tokens_key(content: dict[str, Any]) -> str:
    """Hex; equal for equal content."""
    encoded = msgspec.json.encode(content, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:32]


class TokenFiles(Sequence[list[Example]]):
    """The examples of each dialogue that has any, read from the disk when asked for."""

    def __init__(self, directory: Path) -> None:
        self._manifest = _manifest(directory, "manifest.json")
        self._tokens, self._examples, self._dialogues = (
            _mapped(directory / name, dtype) for name, dtype in zip(_FILES, _DTYPES, strict=True)
        )

    @property
    def report(self) -> EncodeReport:
        """The count of everything."""
        return self._manifest.report

    def __len__(self) -> int:
        return len(self._dialogues)

    @overload
    def __getitem__(self, index: int) -> list[Example]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Example]]: ...
    def __getitem__(self, index: int | slice) -> list[Example] | list[list[Example]]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return [self.example(number) for number in range(self._start(at), self._end(at))]

    def example(self, number: int) -> Example:
        """One of all examples, in the order of the dialogues."""
        row = self._examples[number]
        start = int(self._examples[number - 1]["end"]) if number else 0
        tokens = np.asarray(self._tokens[start : int(row["end"])])
        return Example(
            ids=(tokens & ~TARGET).tolist(),
            is_target=(tokens >= TARGET).tolist(),
            cut=CUTS[int(row["cut"])],
            dropped=int(row["dropped"]),
            characters=int(row["characters"]),
        )

    def examples(self, dialogues: int | None = None) -> Examples:
        """Those of the first ``dialogues``, or of all."""
        many = len(self) if dialogues is None else min(dialogues, len(self))
        return Examples(self, self._end(many - 1) if many else 0)

    def characters(self, examples: int) -> int:
        """Of the replies that are learnt from the first ``examples``."""
        return int(self._examples[:examples]["characters"].sum(dtype=np.int64))

    def lengths(self) -> np.ndarray:
        """The number of tokens of each example."""
        return np.diff(self._examples["end"].astype(np.int64), prepend=0)

    def reply_characters(self) -> np.ndarray:
        """How many characters of replies are learnt from each example ([E], uint32)."""
        return np.asarray(self._examples["characters"])

    def dialogue_lengths(self) -> np.ndarray:
        """The number of tokens of each dialogue's examples together ([D], int64)."""
        ends = self._examples["end"].astype(np.int64)[self._dialogues.astype(np.int64) - 1]
        return np.diff(ends, prepend=0)

    def _start(self, dialogue: int) -> int:
        return self._end(dialogue - 1) if dialogue else 0

    def _end(self, dialogue: int) -> int:
        return int(self._dialogues[dialogue])


class Examples(Sequence[Example]):
    """The first ``many`` examples of ``files``, whatever dialogue they belong to."""

    def __init__(self, files: TokenFiles, many: int) -> None:
        self._files = files
        self._many = many

    @property
    def characters(self) -> int:
        """Of all replies that are learnt from them."""
        return self._files.characters(self._many)

    def __len__(self) -> int:
        return self._many

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._many))]
        return self._files.example(range(self._many)[index])


class TokenWriter:
    """Writes the tokens of ``content`` below ``root``, going on where an earlier one was stopped.

    Use it as a context manager, one at a time for a root; with an exception it leaves what was
    written for the next.
    """

    def __init__(self, root: Path, content: dict[str, Any]) -> None:
        self._target = root / tokens_key(content)
        self._part = root / f".{self._target.name}.part"
        self._done = TokensManifest(content, 0, (0, 0, 0), EncodeReport())

    @property
    def read(self) -> int:
        """How many dialogues of the split are done, with and without examples."""
        return self._done.read

    def __enter__(self) -> Self:
        self._part.mkdir(parents=True, exist_ok=True)
        self._files = [(self._part / name).open("ab") for name in _FILES]
        with suppress(DataError):
            before = _manifest(self._part, "progress.json")
            held = zip(before.sizes, _sizes(self._part), strict=True)
            if all(size <= have for size, have in held):
                self._done = before
        for file, size in zip(self._files, self._done.sizes, strict=True):
            file.truncate(size)
            file.seek(0, os.SEEK_END)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._write_manifest("manifest.json")
            else:
                with suppress(OSError):
                    self.keep()
        finally:
            for file in self._files:
                with suppress(OSError):  # a full disk: what was counted as done is on it
                    file.close()
        if kind is None:
            (self._part / "progress.json").unlink(missing_ok=True)
            shutil.rmtree(self._target, ignore_errors=True)
            self._part.rename(self._target)

    def write(self, encoded: Encoded, read: int) -> None:
        """Add what came of the next ``read`` dialogues."""
        done = self._done
        rows = encoded.examples.copy()
        rows["end"] += np.uint64(done.sizes[0] // 4)
        ends = encoded.dialogues + np.uint64(done.sizes[1] // EXAMPLE.itemsize)
        arrays = zip((encoded.tokens, rows, ends), _DTYPES, strict=True)
        for file, (array, dtype) in zip(self._files, arrays, strict=True):
            file.write(array.astype(dtype, copy=False).tobytes())
        tokens, examples, dialogues = (file.tell() for file in self._files)
        self._done = msgspec.structs.replace(  # at once: Ctrl-C may come anywhere
            done,
            read=done.read + read,
            sizes=(tokens, examples, dialogues),
            report=done.report.plus(encoded.report),
        )

    def keep(self) -> None:
        """Make sure that a later writer can go on from here, whatever happens."""
        self._write_manifest("progress.json")

    def _write_manifest(self, name: str) -> None:
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        staged = self._part / f"{name}.tmp"
        staged.write_bytes(msgspec.json.encode(self._done))
        staged.replace(self._part / name)


def open_tokens(
    root: Path, content: dict[str, Any], make: Callable[[TokenWriter], None]
) -> TokenFiles:
    """The tokens of ``content`` below ``root``; ``make`` writes them where there are none.

    Another process that makes tokens there is waited for. Those of other content are kept too, the
    ones used last.

    Raises:
        DataError: they cannot be written.
    """
    directory = root / tokens_key(content)
    try:
        root.mkdir(exist_ok=True)
        with exclusive_lock(root / ".lock"):
            if not _is_whole(directory):
                with TokenWriter(root, content) as writer:
                    make(writer)
            os.utime(directory)
            _prune(root)
            return TokenFiles(directory)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", file=root) from error


def _is_whole(directory: Path) -> bool:
    try:
        return _manifest(directory, "manifest.json").sizes == _sizes(directory)
    except (OSError, DataError):
        return False


def _prune(root: Path) -> None:
    """Delete all but the tokens used last; who reads deleted ones keeps what was opened."""
    found = [path for path in root.iterdir() if path.is_dir()]
    by_use = sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in by_use[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def _manifest(directory: Path, name: str) -> TokensManifest:
    try:
        return msgspec.json.decode((directory / name).read_bytes(), type=TokensManifest)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"cannot be read: {error}", file=directory / name) from error


def _sizes(directory: Path) -> tuple[int, int, int]:
    tokens, examples, dialogues = ((directory / name).stat().st_size for name in _FILES)
    return tokens, examples, dialogues


def _mapped(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    """An array in a file; an empty one cannot be mapped."""
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)
