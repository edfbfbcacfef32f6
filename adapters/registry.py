"""The registry: names that point to immutable, content-addressed adapters on disk.

It publishes, finds and removes; what may be published is decided in `adapters.intake`.

    blobs/sha256/ab/abcd…/   one adapter, read-only: PEFT's two files and its manifest
    names/<name>.json        the record of a name: which blob, since when
    staging/<uuid>/          a registration in progress (0700)
    GENERATION               counts every change; written last, the cheap signal for pollers
    .lock                    held by writers only; readers never wait

A writer stages and checks copied bytes, makes them durable, moves them to their blob by one rename
and points the name at it by another. A crash between any two steps leaves the old state or the
new one, and at most garbage.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePath
from uuid import uuid4

from adapters import garbage
from adapters.base import Base
from adapters.entry import (
    Entry,
    Record,
    Snapshot,
    Stamps,
    differences,
    entry_of,
    is_whole,
    manifest_of,
    read_entry,
    read_record,
    stamps_of,
)
from adapters.errors import (
    AdapterError,
    AdapterExists,
    AdapterInvalid,
    AdapterNotFound,
    NameRefused,
    RegistryCorrupt,
    RegistryUnreadable,
)
from adapters.intake import take_in
from adapters.layout import NAME, Layout
from adapters.manifest import MANIFEST_FILE, Evaluation, Manifest
from adapters.storage import (
    Disk,
    FileRefused,
    directory_in_use,
    exclusive_lock,
    make_directories,
    read_bytes,
    replace_file,
)

__all__ = ["Entry", "Registry", "Snapshot"]


def _changed_ns(path: Path) -> int:
    """When it was changed last, on the clock of then; 0 where it cannot be looked at."""
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return 0


def name_problems(name: str, base: str) -> list[str]:
    """Why an adapter of the base called ``base`` can never have this name; empty where it can."""
    if not NAME.fullmatch(name):
        rule = "1 to 128 of A-Z a-z 0-9 . _ - with a letter or digit first"
        return [f"name {name[:200]!a} cannot be used; a name is {rule}"]
    if name.casefold() in (base.casefold(), PurePath(base).name.casefold()):
        return [f"name '{name}' is the base's own; choose another"]
    return []


class Registry:
    """The registry below ``root``, which need not exist yet. Holds no state of its own.

    Any number of threads and processes may use it at once. ``disk`` is a seam for tests.
    """

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self._layout = Layout(root)
        self._disk = disk or Disk()

    def signature(self) -> tuple[int, ...]:
        """Differs after every change; costs one small read and one stat. Never raises."""
        return (self._count(), _changed_ns(self._layout.names))

    def snapshot(self, known: Snapshot | None = None) -> Snapshot:
        """Every name, usable or broken.

        What was ``known`` of this registry, and whose record and manifest have not changed, is not
        read again; whether its other files are there shows when they are loaded.

        Raises:
            AdapterError: the registry's directory cannot be listed, or is gone since it was known.
        """
        known = known or Snapshot({}, {})
        if known.entries and not self._layout.names.is_dir():  # it stays when all are removed
            raise AdapterError(f"The registry {self.root} is gone; bring it back.")
        entries: dict[str, Entry] = {}
        broken: dict[str, str] = {}
        unread: set[str] = set()
        stamps: dict[str, Stamps] = {}
        for name in self._known():
            try:
                entries[name], found = self._entry(name, known)
            except AdapterNotFound:
                continue  # removed since it was listed
            except RegistryCorrupt as error:
                broken[name] = str(error)
                if isinstance(error, RegistryUnreadable):
                    unread.add(name)
            else:
                if found is not None:
                    stamps[name] = found
        return Snapshot(entries, broken, frozenset(unread), stamps)

    def _entry(self, name: str, known: Snapshot) -> tuple[Entry, Stamps | None]:
        """The entry of ``name``, and the stamps that its files had before they were read."""
        if before := known.stamps.get(name):
            entry = known.entries[name]
            if stamps_of(self._layout, name, entry.digest) == before:
                return entry, before
        digest = read_record(self._layout, name).digest
        stamps = stamps_of(self._layout, name, digest)
        entry = read_entry(self._layout, name)
        return entry, stamps if entry.digest == digest else None

    def get(self, name: str) -> Entry:
        """The entry of ``name``.

        Raises:
            AdapterNotFound: it is not registered; the message lists what is.
            RegistryCorrupt: it is registered but broken; RegistryUnreadable: perhaps only now.
        """
        try:
            return read_entry(self._layout, name)
        except AdapterNotFound:
            raise AdapterNotFound(name, self._known()) from None
        except RegistryUnreadable as error:
            raise RegistryUnreadable(
                f"'{name}' cannot be read now: {error}. Try again in a moment."
            ) from error
        except RegistryCorrupt as error:
            raise RegistryCorrupt(
                f"'{name}' is registered but broken: {error}. Register it again, or remove it."
            ) from error

    def verify(self, name: str) -> list[str]:
        """Hash the files of ``name`` again; every difference from what was registered.

        Raises:
            AdapterNotFound: it is not registered; the message lists what is.
        """
        try:
            entry = read_entry(self._layout, name)
        except AdapterNotFound:
            raise AdapterNotFound(name, self._known()) from None
        except RegistryCorrupt as error:
            return [str(error)]
        return differences(entry.path, entry.manifest)

    def check_name(self, name: str, base: str) -> None:
        """Refuse a name before hours of training go into it.

        Raises:
            NameRefused: no adapter of the base called ``base`` can be registered so.
        """
        for problem in self._name_problems(name, base):
            raise NameRefused(f"The {problem}.")

    def register(
        self,
        source: Path,
        name: str,
        base: Base,
        *,
        assume_base: bool = False,
        replaces: bool = True,
    ) -> Entry:
        """Copy the adapter in ``source`` here and point ``name`` at it, replacing what it was.

        ``source`` is only read, and may be deleted afterwards. ``assume_base`` takes the user's
        word that an adapter trained elsewhere belongs to ``base``, whatever it calls its base.
        Without ``replaces`` the name has to be free, to the last moment.

        Raises:
            AdapterExists: the name is not free; the registry is as before.
            AdapterInvalid: it was refused, with every reason; the registry is as before.
            AdapterError: the registry could not be written.
        """
        if not replaces and name in self._known():
            raise AdapterExists(name)  # before anything is copied
        with self._writing(), self._staged() as staging:
            manifest, problems = take_in(source, staging, base, self._disk, assume_base=assume_base)
            problems = [*self._name_problems(name, base.name), *problems]
            if manifest is None or problems:
                raise AdapterInvalid(source, problems)
            self._seal(staging, manifest)
            with exclusive_lock(self._layout.lock):
                if problems := self._name_problems(name, base.name):
                    raise AdapterInvalid(source, problems)  # taken while the files were copied
                if not replaces and name in self._known():
                    raise AdapterExists(name)
                return self._publish(staging, name, manifest)

    def remove(self, name: str) -> None:
        """Forget ``name``, broken or not. Its blob stays until :meth:`collect_garbage`.

        Raises:
            AdapterNotFound: it is not registered; the message lists what is.
            AdapterError: the registry could not be written.
        """
        if not NAME.fullmatch(name) or name not in self._known():
            raise AdapterNotFound(name, self._known())
        with self._writing(), exclusive_lock(self._layout.lock):
            if name not in self._known():
                raise AdapterNotFound(name, self._known())  # removed by another just now
            generation = self._next_generation()
            self._mark_unused(name)
            self._disk.unlink(self._layout.record(name))
            self._disk.sync(self._layout.names)
            self._announce(generation)

    def record_evaluation(self, entry: Entry, evaluation: Evaluation) -> None:
        """Write what was measured of ``entry`` into its manifest; its digest stays as it was.

        It is the blob that was measured which gets it, also where the name has moved on meanwhile.

        Raises:
            RegistryCorrupt: that blob is gone or damaged.
            AdapterError: the registry could not be written.
        """
        with self._writing(), exclusive_lock(self._layout.lock):
            try:
                manifest = manifest_of(self._layout, entry.digest)
            except RegistryCorrupt as error:
                raise RegistryCorrupt(
                    f"What was measured of '{entry.name}' cannot be kept, because {error}."
                ) from error
            generation = self._next_generation()
            blob = self._layout.blob(entry.digest)
            path = blob / MANIFEST_FILE
            self._disk.set_mode(blob, 0o755)
            replace_file(self._disk, path, manifest.with_evaluation(evaluation).encoded())
            self._disk.set_mode(path, 0o444)
            self._disk.set_mode(blob, 0o555)
            self._announce(generation)

    def rename(self, name: str, to: str, base: str) -> Entry:
        """Call the adapter ``name`` ``to`` from now on; ``base`` is what its base is called.

        For a moment both names are there, and after a crash both may be.

        Raises:
            AdapterNotFound: it is not registered; the message lists what is.
            RegistryCorrupt: it is registered but broken.
            AdapterExists: ``to`` is not free.
            NameRefused: ``to`` cannot be used.
            AdapterError: the registry could not be written.
        """
        self.get(name)  # before anything is written: there may be no registry at all
        with self._writing(), exclusive_lock(self._layout.lock):
            entry = self.get(name)
            if to in self._known():
                raise AdapterExists(to)
            self.check_name(to, base)
            record = Record(to, entry.digest, self._next_generation(), entry.created)
            replace_file(self._disk, self._layout.record(to), record.encoded())
            self._disk.unlink(self._layout.record(name))
            self._disk.sync(self._layout.names)
            self._announce(record.generation)
            return entry_of(self._layout, record, entry.manifest)

    def collect_garbage(self, grace_s: float = 3600) -> list[str]:
        """Delete what no name has needed for ``grace_s`` seconds; the digests of deleted blobs.

        Raises:
            AdapterError: the registry could not be read or written.
        """
        if not self._layout.names.is_dir():
            return []
        with self._writing(), exclusive_lock(self._layout.lock):
            return garbage.collect(self._layout, self._disk, grace_s)

    # Steps of a registration

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        """A private directory for one registration, gone at the end unless it was published."""
        for path in (self._layout.blobs, self._layout.names):
            make_directories(self._disk, path)
        make_directories(self._disk, self._layout.staging, 0o700)
        staging = self._layout.staging / uuid4().hex
        with ExitStack() as stack:
            with exclusive_lock(self._layout.lock):  # a collector must not see it unmarked
                self._disk.make_directory(staging, 0o700)
                stack.enter_context(directory_in_use(staging))
            try:
                yield staging
            finally:
                if staging.exists():
                    with suppress(OSError):  # what is left will be swept
                        self._disk.remove_tree(staging)

    def _seal(self, staging: Path, manifest: Manifest) -> None:
        """Complete the staged adapter and make it durable and read-only."""
        self._disk.write(staging / MANIFEST_FILE, [manifest.encoded()])
        for path in sorted(staging.iterdir()):
            self._disk.set_mode(path, 0o444)
            self._disk.sync(path)
        self._disk.set_mode(staging, 0o755)  # closed after the rename, which needs it writable
        self._disk.sync(staging)

    def _publish(self, staging: Path, name: str, manifest: Manifest) -> Entry:
        """Under the lock: the blob to its place, then the name onto the blob, then the signal."""
        record = Record(name, manifest.digest, self._next_generation(), int(time.time()))
        self._place(staging, record.digest)
        self._mark_unused(name)
        replace_file(self._disk, self._layout.record(name), record.encoded())
        self._announce(record.generation)
        return entry_of(self._layout, record, manifest)

    def _place(self, staging: Path, digest: str) -> None:
        blob = self._layout.blob(digest)
        make_directories(self._disk, blob.parent)
        if blob.exists() and not is_whole(blob, digest):
            garbage.discard(self._layout, self._disk, blob)
        if not blob.exists():
            self._disk.rename(staging, blob)
        self._disk.set_mode(blob, 0o555)
        self._disk.sync(blob.parent)

    def _mark_unused(self, name: str) -> None:
        """The grace of the name's present blob begins now; a reader may just be loading it."""
        with suppress(AdapterNotFound, RegistryCorrupt, OSError):
            self._disk.touch(self._layout.blob(read_record(self._layout, name).digest))

    def _announce(self, generation: int) -> None:
        replace_file(self._disk, self._layout.generation, b"%d\n" % generation)

    def _next_generation(self) -> int:
        """One more than any so far, also after a crash between a record and the signal.

        Only a record that is as young as the signal, or younger, can be of a change without one.
        """
        highest = self._count()
        signalled_ns = _changed_ns(self._layout.generation) if highest else 0
        for name in self._known():
            with suppress(AdapterNotFound, RegistryCorrupt):
                if _changed_ns(self._layout.names / f"{name}.json") >= signalled_ns:
                    highest = max(highest, read_record(self._layout, name).generation)
        return highest + 1

    def _count(self) -> int:
        """The signal's number; 0 where it is lost, or torn: then its line has no end."""
        try:
            found = read_bytes(self._layout.generation, limit=32)
            return int(found) if found.endswith(b"\n") else 0
        except (OSError, FileRefused, ValueError):
            return 0

    # Names and errors

    def _known(self) -> list[str]:
        try:
            return self._layout.recorded()
        except OSError as error:
            raise AdapterError(f"The registry {self.root} cannot be read: {error}") from error

    def _name_problems(self, name: str, base: str) -> list[str]:
        if problems := name_problems(name, base):
            return problems
        folded = name.casefold()
        twins = [known for known in self._known() if known != name and known.casefold() == folded]
        return [
            f"name '{name}' differs only in case from the registered '{twin}'" for twin in twins
        ]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AdapterError(
                f"The registry {self.root} could not be written: {error.strerror} "
                f"({error.filename or 'no file named'}). "
                "What was registered before is still there; make room or fix the permissions, "
                "then run the same command again."
            ) from error
