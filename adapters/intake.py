"""Copy an adapter from a directory nobody vouches for, and judge the copy.

Three files are looked at; whatever else lies there is left alone. What is judged are the copied
bytes, so that a change of the source afterwards changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from adapters.base import Base
from adapters.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    PROJECTIONS,
    WEIGHTS_FILE,
    FileRef,
    Manifest,
)
from adapters.peft_config import LoraSettings
from adapters.storage import Disk, FileRefused, blocks, open_regular, read_bytes
from adapters.validate import (
    CONFIG_LIMIT,
    check_config,
    check_manifest,
    check_origin,
    check_weights,
)

WEIGHTS_LIMIT = 4 << 30  # bytes
LIMITS = {CONFIG_FILE: CONFIG_LIMIT, WEIGHTS_FILE: WEIGHTS_LIMIT}
PICKLE_FILE = "adapter_model.bin"


def take_in(
    source: Path, staging: Path, base: Base, disk: Disk, *, assume_base: bool
) -> tuple[Manifest | None, list[str]]:
    """Copy PEFT's two files from ``source`` to ``staging``; the manifest to publish, or problems.

    Raises:
        OSError: the copy could not be written.
    """
    if not source.is_dir():
        what = "is not a directory; unpack it first" if source.exists() else "does not exist"
        return None, [f"{source} {what}"]
    copied, problems = _copy(source, staging, disk)
    told, manifest_problems = _manifest(source)
    problems += manifest_problems
    settings: LoraSettings | None = None
    if CONFIG_FILE in copied:
        settings, config_problems = check_config(staging / CONFIG_FILE)
        problems += config_problems
    if WEIGHTS_FILE in copied:
        problems += check_weights(staging / WEIGHTS_FILE, base, settings)
    files = tuple(copied[name] for name in sorted(copied))
    if settings is not None and not manifest_problems:
        problems += _origin_problems(told, settings, base, files, assume_base=assume_base)
    if settings is None or problems:
        return None, problems
    return msgspec.structs.replace(told or _manifest_for(settings, base), files=files), []


def _origin_problems(
    told: Manifest | None,
    settings: LoraSettings,
    base: Base,
    files: tuple[FileRef, ...],
    *,
    assume_base: bool,
) -> list[str]:
    if told is not None:
        return check_manifest(told, settings, base, files)
    return [] if assume_base else check_origin(settings, base)


def _manifest_for(settings: LoraSettings, base: Base) -> Manifest:
    """What is known of an adapter that was trained elsewhere."""
    targets = tuple(name for name in PROJECTIONS if name in settings.target_modules)
    return Manifest(base=base.ref, rank=settings.r, alpha=settings.alpha, target_modules=targets)


def _manifest(source: Path) -> tuple[Manifest | None, list[str]]:
    """The manifest that lies in ``source``: ``None`` where there is none, or with problems."""
    try:
        data = read_bytes(source / MANIFEST_FILE, CONFIG_LIMIT)
        return msgspec.json.decode(data, type=Manifest), []
    except FileNotFoundError:
        return None, []
    except FileRefused as error:
        return None, [f"{MANIFEST_FILE} {error}"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        advice = "delete it to register the adapter as one trained elsewhere"
        return None, [f"{MANIFEST_FILE} is no manifest of this project ({error}); {advice}"]


def _copy(source: Path, staging: Path, disk: Disk) -> tuple[dict[str, FileRef], list[str]]:
    copied: dict[str, FileRef] = {}
    problems = []
    for name, limit in LIMITS.items():
        try:
            with open_regular(source / name, limit) as file:
                copy = _Hashing(blocks(file, limit))
                disk.write(staging / name, copy)
            copied[name] = FileRef(name, copy.size, copy.sha256)
        except FileNotFoundError:
            problems.append(_missing(source, name))
        except FileRefused as error:
            problems.append(f"{name} {error}")
    return copied, problems


def _missing(source: Path, name: str) -> str:
    if name == WEIGHTS_FILE and (source / PICKLE_FILE).exists():
        return (
            f"{PICKLE_FILE} is a pickle, which can run code and is never opened; "
            f"save the adapter as {WEIGHTS_FILE} (PEFT's safe_serialization=True)"
        )
    return f"{name} is missing"


class _Hashing:
    """Passes blocks of bytes on, and knows afterwards how many they were and their SHA-256."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._digest = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.size += len(block)
            self._digest.update(block)
            yield block

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()
