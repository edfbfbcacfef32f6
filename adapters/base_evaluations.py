"""What was measured of bases: they have no manifest of ours, and may lie where nobody writes.

    evaluations/DIGEST.json   of one base, by all that its figures depend on: its weights, its
                              tokenizer and its chat template
    evaluations/.lock         held by writers only; readers never wait

Another base under the same name has another digest, and so none of these figures.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from adapters.errors import AdapterError
from adapters.manifest import BaseRef, Evaluation, with_newest
from adapters.storage import (
    Disk,
    FileRefused,
    exclusive_lock,
    make_directories,
    read_bytes,
    replace_file,
)

LARGEST = 1 << 20  # bytes of a record


class BaseRecord(msgspec.Struct, frozen=True, tag_field="format", tag="lccc-base/1"):
    """The evaluations of one base, the oldest first; its name is that of the last one."""

    base: BaseRef
    evaluations: tuple[Evaluation, ...]


class BaseEvaluations:
    """The records below ``root``, which need not exist yet. Any number of processes may use it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, base: BaseRef) -> tuple[Evaluation, ...]:
        """What was measured of ``base``, whatever it was called then.

        Raises:
            AdapterError: there is a record, and it cannot be read.
        """
        path = self._path(base)
        try:
            return msgspec.json.decode(read_bytes(path, LARGEST), type=BaseRecord).evaluations
        except FileNotFoundError:
            return ()
        except (OSError, FileRefused, ValueError) as error:
            raise AdapterError(
                f"What was measured of the base '{base.name}' cannot be read: {path}: {error}. "
                "Delete that file and measure it again."
            ) from error

    def record(self, base: BaseRef, evaluation: Evaluation) -> None:
        """Keep what was measured of ``base``, as an adapter's manifest would.

        Raises:
            AdapterError: it could not be written, or what is there cannot be read.
        """
        try:
            make_directories(Disk(), self._root)
            with exclusive_lock(self._root / ".lock"):
                record = BaseRecord(base, with_newest(self.of(base), evaluation))
                encoded = msgspec.json.format(msgspec.json.encode(record), indent=2)
                replace_file(Disk(), self._path(base), encoded)
        except OSError as error:
            raise AdapterError(
                f"What was measured of the base '{base.name}' could not be written to "
                f"{self._root}: {error.strerror}. Make room or fix the permissions, then run the "
                "same command again."
            ) from error

    def _path(self, base: BaseRef) -> Path:
        hashes = [base.weights_sha256, base.tokenizer_sha256, base.template_sha256]
        return self._root / f"{hashlib.sha256(' '.join(hashes).encode()).hexdigest()}.json"
