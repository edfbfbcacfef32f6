"""The base and the adapters of a benchmark, made where they are missing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.errors import AdapterNotFound, RegistryCorrupt
from admin.bench.errors import BenchFailed
from admin.context import AdminContext

if TYPE_CHECKING:
    from adapters.base import Base
    from adapters.registry import Registry


def adapter_names(count: int) -> list[str]:
    """What random adapters are registered as."""
    return [f"bench-{number}" for number in range(1, count + 1)]


def obtain_adapters(admin: AdminContext, base: Base, count: int) -> list[str]:
    """The names of ``count`` random adapters of ``base``, registered here.

    Raises:
        BenchFailed: an adapter that someone trained has one of the names.
    """
    from adapters.registry import Registry
    from training.synthetic.adapter import make_random_adapter

    registry = Registry(admin.home.registry)
    names = adapter_names(count)
    missing = [name for name in names if not _is_there(registry, name, base)]
    if missing:
        admin.output.say(f"Making {len(missing)} random adapters of {base.name} …")
    for name in missing:
        with tempfile.TemporaryDirectory(prefix="lccc-bench-") as directory:
            made = make_random_adapter(Path(directory) / name, base, seed=names.index(name) + 1)
            registry.register(made, name, base)
    return names


def _is_there(registry: Registry, name: str, base: Base) -> bool:
    """Whether ``name`` is a random adapter of ``base``; one of another base may be replaced."""
    try:
        manifest = registry.get(name).manifest
    except (AdapterNotFound, RegistryCorrupt):
        return False
    if manifest.run is not None:
        raise BenchFailed(
            f"The benchmark's adapters are called bench-1, bench-2 and so on, and '{name}' is one "
            "that was trained. Register that under another name, or give the benchmark a home of "
            "its own (`lccc-admin --home DIR bench`)."
        )
    return manifest.base.weights_sha256 == base.ref.weights_sha256
