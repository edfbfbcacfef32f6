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
from training.data.example import Cut, EncodeReport, Example
from training.errors import DataError

TARGET = np.uint32(1 << 31)
EXAMPLE = np.dtype([("end", "<u8"), ("characters", "<u4"), ("dropped", "<u2"), ("cut", "<u2")])
CUTS = tuple(Cut)

# How many encodings of a dataset are kept: those used last.
KEPT = 6

_FILES = ("tokens.bin", "examples.bin", "dialogues.bin")
_DTYPES: tuple[np.dtype[Any], ...] = (np.dtype("<u4"), EXAMPLE, np.dtype("<u8"))


class Encoded(msgspec.Struct, frozen=True):
    """Some dialogues' examples as arrays: ``examples`` and ``dialogues`` count from 0 here."""

    tokens: np.ndarray  # [T] uint32
    examples: np.ndarray  # [E] of EXAMPLE
    dialogues: np.ndarray  # [D] uint64, only dialogues that have an example
    report: EncodeReport

    @classmethod
    def of(cls, dialogues: Sequence[Sequence[Example]]) -> Encoded:
        """Lay out the examples of ``dialogues``."""
        examples = [example for each in dialogues for example in each]
        lengths = [len(example.ids) for example in examples]
        many = sum(lengths)
        ids = np.fromiter((token for each in examples for token in each.ids), np.uint32, many)
        targets = np.fromiter((flag for each in examples for flag in each.is_target), bool, many)
        rows = np.zeros(len(examples), EXAMPLE)
        rows["end"] = np.cumsum(lengths)
        rows["characters"] = [example.characters for example in examples]
        rows["dropped"] = [min(example.dropped, 0xFFFF) for example in examples]
        rows["cut"] = [CUTS.index(example.cut) for example in examples]
        ends = np.cumsum([len(each) for each in dialogues if each], dtype=np.uint64)
        report = EncodeReport.over(dialogues)
        return cls(np.where(targets, ids | TARGET, ids), rows, ends, report)

    @classmethod
    def whole(
        cls, tokens: np.ndarray, ends: np.ndarray, characters: Any, dialogues: Any
    ) -> Encoded:
        """Examples that were not cut, each with its end and its characters, of ``dialogues``."""
        rows = np.zeros(len(ends), EXAMPLE)
        rows["end"], rows["characters"] = ends, characters
        report = _counted(tokens, rows, len(dialogues))
        return cls(tokens, rows, np.asarray(dialogues, np.uint64), report)

    @classmethod
    def joined(cls, parts: Sequence[Encoded]) -> Encoded:
        """All of ``parts``, one after the other; at least one."""
        report = parts[0].report
        rows: list[np.ndarray] = []
        ends: list[np.ndarray] = []
        tokens = examples = 0
        for part in parts:
            report = report.plus(part.report) if rows else report
            rows.append(part.examples.copy())
            rows[-1]["end"] += np.uint64(tokens)
            ends.append(part.dialogues + np.uint64(examples))
            tokens += len(part.tokens)
            examples += len(part.examples)
        flat = np.concatenate([part.tokens for part in parts])
        return cls(flat, np.concatenate(rows), np.concatenate(ends), report)

    def part(self, start: int, stop: int) -> Encoded:
        """The dialogues that have an example from ``start`` up to and without ``stop``."""
        first, last = (int(self.dialogues[at - 1]) if at else 0 for at in (start, stop))
        begin, end = (int(self.examples[at - 1]["end"]) if at else 0 for at in (first, last))
        tokens, rows = self.tokens[begin:end], self.examples[first:last].copy()
        rows["end"] -= np.uint64(begin)
        ends = self.dialogues[start:stop] - np.uint64(first)
        return Encoded(tokens, rows, ends, _counted(tokens, rows, len(ends)))

    def equals(self, other: Encoded) -> bool:
        """Whether both are the same to the last bit."""
        return self.report == other.report and all(
            np.array_equal(one, another)
            for one, another in (
                (self.tokens, other.tokens),
                (self.examples, other.examples),
                (self.dialogues, other.dialogues),
            )
        )


def _counted(tokens: np.ndarray, rows: np.ndarray, dialogues: int) -> EncodeReport:
    """The count of examples; none of them begins with a target."""
    is_target = tokens >= TARGET
    lengths = np.diff(rows["end"].astype(np.int64), prepend=0)
    return EncodeReport(
        dialogues=dialogues,
        examples=len(rows),
        replies=int(np.count_nonzero(is_target[1:] & ~is_target[:-1])),
        tokens=len(tokens),
        target_tokens=int(np.count_nonzero(is_target)),
        longest=int(lengths.max(initial=0)),
        cut={str(cut): int(np.count_nonzero(rows["cut"] == at)) for at, cut in enumerate(CUTS)},
        utterances_dropped=int(rows["dropped"].sum(dtype=np.int64)),
    )


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
