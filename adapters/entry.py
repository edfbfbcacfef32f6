"""Reading the registry: a name's record, the adapter it points to, and whether both are whole.

Nothing is written here, and no lock is needed: what a record points to never changes.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated

import msgspec

from adapters.errors import AdapterNotFound, RegistryCorrupt, RegistryUnreadable
from adapters.layout import NAME, Layout
from adapters.manifest import CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE, Manifest
from adapters.storage import PASSING, FileRefused, read_bytes, sha256_of

_RECORD_LIMIT = 64 << 10  # bytes
_MANIFEST_LIMIT = 2 << 20
_ATTEMPTS = 10
_UNREADABLE = (OSError, FileRefused, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Entry(msgspec.Struct, frozen=True):
    """One registered name. ``path`` is its blob: an adapter directory that never changes.

    ``created`` is in Unix seconds; ``generation`` is the registry's count at its registration.
    """

    name: str
    digest: str
    manifest: Manifest
    path: Path
    created: int
    generation: int

    def read(self, file: str) -> bytes:
        """The bytes of one of the blob's files, the very bytes that were checked.

        Raises:
            RegistryUnreadable: they cannot be read, perhaps only now.
            RegistryCorrupt: they are not what was registered.
        """
        expected = next(ref for ref in self.manifest.files if ref.name == file)
        try:
            found = read_bytes(self.path / file, limit=expected.size)
        except OSError as error:
            raise RegistryUnreadable(f"'{self.name}': {file} {_reason(error)}") from error
        except FileRefused as error:
            raise RegistryCorrupt(f"'{self.name}' is damaged: {file} {_reason(error)}") from error
        if hashlib.sha256(found).hexdigest() != expected.sha256:
            raise RegistryCorrupt(f"'{self.name}' is damaged: {file} is not what was registered")
        return found


# Of a record and a manifest: when it was changed last, which file it is, and its size.
Stamps = tuple[tuple[int, int, int], ...]


class Snapshot(msgspec.Struct, frozen=True):
    """What the registry held at one moment; ``broken`` gives a reason for each unusable name.

    ``unread`` are those of the broken that only could not be read just now. ``stamps`` tell whether
    an entry's record or manifest has changed since it was read; those of an entry that was replaced
    just then are left out.
    """

    entries: dict[str, Entry]
    broken: dict[str, str]
    unread: frozenset[str] = frozenset()
    stamps: dict[str, Stamps] = {}


class Record(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag="lccc-name/1"
):
    """The content of ``names/<name>.json``."""

    name: str
    digest: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    generation: Annotated[int, msgspec.Meta(ge=1)]
    created: int

    def encoded(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def read_entry(layout: Layout, name: str) -> Entry:
    """The entry of ``name``. Sizes and the manifest's hash are checked, the weights are not read.

    Raises:
        AdapterNotFound: no such record; the error does not list what is there.
        RegistryCorrupt: the record or its adapter cannot be used; the text is the reason alone.
            RegistryUnreadable if the machine could not read it just now.
    """
    for _ in range(_ATTEMPTS):
        record = read_record(layout, name)
        try:
            manifest = _read_manifest(layout.blob(record.digest), record.digest)
        except RegistryCorrupt:
            if read_record(layout, name) == record:
                raise
            continue  # replaced, and its old adapter collected, between the two reads
        return entry_of(layout, record, manifest)
    raise RegistryCorrupt("its record changes faster than it can be read")


def stamps_of(layout: Layout, name: str, digest: str) -> Stamps | None:
    """What tells a change of the record of ``name`` or of the manifest of its adapter, ``digest``.

    ``None`` where one of them cannot be looked at.
    """
    # Of thousands at once: paths as objects would take most of the time.
    files = (f"{layout.record(name)}", f"{layout.blob(digest)}/{MANIFEST_FILE}")
    try:
        found = [os.lstat(file) for file in files]
    except OSError:
        return None
    return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in found)


def entry_of(layout: Layout, record: Record, manifest: Manifest) -> Entry:
    """A record and the manifest of its blob, together."""
    return Entry(
        name=record.name,
        digest=record.digest,
        manifest=manifest,
        path=layout.blob(record.digest),
        created=record.created,
        generation=record.generation,
    )


def read_record(layout: Layout, name: str) -> Record:
    """The record of ``name``; errors of :func:`read_entry`."""
    if not NAME.fullmatch(name):
        if name in layout.recorded():
            raise RegistryCorrupt("this is no valid name; delete its file in the registry's names")
        raise AdapterNotFound(name)
    path = layout.record(name)
    try:
        record = msgspec.json.decode(read_bytes(path, _RECORD_LIMIT), type=Record)
    except FileNotFoundError:
        raise AdapterNotFound(name) from None
    except _UNREADABLE as error:
        raise _trouble(error, f"its record {path.name}") from error
    if record.name != name:
        raise RegistryCorrupt(f"its record {path.name} is that of '{record.name}'")
    return record


def _read_manifest(blob: Path, digest: str) -> Manifest:
    try:
        data = read_bytes(blob / MANIFEST_FILE, _MANIFEST_LIMIT)
        manifest = msgspec.json.decode(data, type=Manifest)
    except _UNREADABLE as error:
        raise _trouble(error, MANIFEST_FILE) from error
    if digest not in (hashlib.sha256(data).hexdigest(), manifest.digest):
        raise RegistryCorrupt(f"{MANIFEST_FILE} is not what was registered")
    if {ref.name for ref in manifest.files} != {CONFIG_FILE, WEIGHTS_FILE}:
        raise RegistryCorrupt(f"{MANIFEST_FILE} does not list the adapter's two files")
    for ref in manifest.files:
        try:
            size = (blob / ref.name).lstat().st_size
        except OSError as error:
            raise _trouble(error, ref.name) from error
        if size != ref.size:
            raise RegistryCorrupt(f"{ref.name} has {size:,} bytes, registered were {ref.size:,}")
    return manifest


def manifest_of(layout: Layout, digest: str) -> Manifest:
    """The manifest of the blob with this digest.

    Raises:
        RegistryCorrupt: it is not there, or not what was registered; the text is the reason alone.
    """
    return _read_manifest(layout.blob(digest), digest)


def differences(blob: Path, manifest: Manifest) -> list[str]:
    """Hash the files of a blob again; every difference from what was registered."""
    problems = []
    for ref in manifest.files:
        try:
            size, digest = sha256_of(blob / ref.name)
        except (OSError, FileRefused) as error:
            problems.append(f"{ref.name} {_reason(error)}")
            continue
        if (size, digest) != (ref.size, ref.sha256):
            problems.append(f"{ref.name} is not what was registered")
    return problems


def is_whole(blob: Path, digest: str) -> bool:
    """Whether this directory holds exactly the bytes that its digest stands for."""
    try:
        return not differences(blob, _read_manifest(blob, digest))
    except RegistryCorrupt:
        return False


def _trouble(error: Exception, file: str) -> RegistryCorrupt:
    """What to raise for a file that could not be read or understood."""
    is_passing = isinstance(error, OSError) and error.errno in PASSING
    kind = RegistryUnreadable if is_passing else RegistryCorrupt
    return kind(f"{file} {_reason(error)}")


def _reason(error: Exception) -> str:
    """What is wrong with a file, to be read after its name."""
    if isinstance(error, FileNotFoundError):
        return "is missing"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    if isinstance(error, FileRefused):
        return str(error)
    return f"cannot be understood ({error})"
