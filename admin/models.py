"""The models that a command was given: adapters by name or directory, and the base they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from adapters.errors import AdapterInvalid, BaseNotFound, LcccError
from admin.context import AdminContext

if TYPE_CHECKING:
    from adapters.base import Base
    from adapters.manifest import Manifest
    from adapters.registry import Entry


class ModelsDiffer(LcccError):
    """The models named do not belong to one base."""


@dataclass(frozen=True)
class Model:
    """One of them. ``path`` and ``manifest`` are an adapter's, ``entry`` a registered one's."""

    name: str
    path: Path | None = None
    manifest: Manifest | None = None
    entry: Entry | None = None


@contextmanager
def chosen(
    admin: AdminContext, names: Sequence[str], base_name: str | None
) -> Iterator[tuple[Base, list[Model]]]:
    """The base, and a model for each of ``names``; copies of directories go at the end.

    A name is a registered adapter, a directory with an adapter, or the base. Without
    ``base_name``, the base is that of the adapters.

    Raises:
        LcccError: a name says nothing, an adapter is refused, or there is more than one base.
    """
    from adapters.registry import Registry

    known = Registry(admin.home.registry).snapshot().entries
    with ExitStack() as stack:
        base = _base(admin, names, known, base_name)
        yield base, [_model(stack, base, name, known) for name in names]


def base_of(admin: AdminContext, entry: Entry) -> Base:
    """The base that ``entry`` was trained on, by content.

    Raises:
        BaseNotFound: it is not here, or what has its name is another.
    """
    from adapters.base import find_base
    from training.errors import RunNotFound
    from training.runs import RunStore

    wanted, run = entry.manifest.base, entry.manifest.run
    places = [wanted.name]
    if run is not None:
        with suppress(RunNotFound):
            places.append(RunStore(admin.home.runs).get(run.id).status().base_path or "")
    for place in filter(None, places):
        try:
            base = find_base(place, admin.home)
        except LcccError:
            continue
        if base.ref.weights_sha256 == wanted.weights_sha256:
            return base
    raise BaseNotFound(wanted.name, [admin.home.bases])


def _base(
    admin: AdminContext, names: Sequence[str], known: dict[str, Entry], base_name: str | None
) -> Base:
    from adapters.base import find_base

    if base_name is not None:
        return find_base(base_name, admin.home)
    for name in names:
        if name in known:
            return base_of(admin, known[name])
    for name in names:
        if not _is_adapter(Path(name)):
            return find_base(name, admin.home)
    raise ModelsDiffer("Directories do not say where their base is: name it with --base.")


def _model(stack: ExitStack, base: Base, name: str, known: dict[str, Entry]) -> Model:
    if entry := known.get(name):
        if entry.manifest.base.weights_sha256 != base.ref.weights_sha256:
            raise ModelsDiffer(
                f"'{name}' was trained on '{entry.manifest.base.name}' "
                f"({entry.manifest.base.weights_sha256[:12]}), and here the base is '{base.name}' "
                f"({base.ref.weights_sha256[:12]}). Look at one base's adapters at a time."
            )
        return Model(name, entry.path, entry.manifest, entry)
    if _is_adapter(Path(name)):
        return _copied(stack, base, Path(name))
    if name in (base.name, str(base.path)) or Path(name).expanduser().absolute() == base.path:
        return Model(base.name)
    listed = ", ".join([base.name, *sorted(known)])
    raise ModelsDiffer(
        f"'{name}' is no adapter, no directory with one, and not the base. There are: {listed}."
    )


def _is_adapter(path: Path) -> bool:
    from adapters.manifest import CONFIG_FILE

    return (path / CONFIG_FILE).is_file()


def _copied(stack: ExitStack, base: Base, directory: Path) -> Model:
    """A copy that has been judged like one to be registered, before any library opens it."""
    from adapters.intake import take_in
    from adapters.storage import Disk

    staging = Path(stack.enter_context(TemporaryDirectory(prefix="lccc-adapter-")))
    manifest, problems = take_in(directory, staging, base, Disk(), assume_base=True)
    if manifest is None:
        raise AdapterInvalid(directory, problems)
    return Model(directory.resolve().name, staging, manifest)
