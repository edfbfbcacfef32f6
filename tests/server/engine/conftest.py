"""Bases and adapters that all engine tests share; they are only ever read."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.base import Base, read_base
from adapters.manifest import PROJECTIONS
from adapters.registry import Registry
from tests.server.engine.harness import FAMILIES, Publish
from tests.tiny import random_adapter, tiny_base

ADAPTERS = {
    "full": {"rank": 4, "alpha": 8.0, "targets": PROJECTIONS},
    "wide": {"rank": 7, "alpha": 5.0, "targets": ("q_proj", "v_proj", "down_proj")},
    "stable": {"rank": 2, "alpha": 3.0, "targets": ("k_proj", "up_proj"), "use_rslora": True},
}


@pytest.fixture
def anyio_backend() -> str:
    """The engine is for asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    """One tiny base of each family, by the family's name."""
    root = tmp_path_factory.mktemp("bases")
    return {name: read_base(tiny_base(root / name, name), name) for name in FAMILIES}


@pytest.fixture(scope="session")
def base(bases: dict[str, Base]) -> Base:
    return bases["qwen3"]


@pytest.fixture(scope="session")
def adapter_paths(
    bases: dict[str, Base], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Path]]:
    """PEFT directories by family and name: other ranks, scalings and subsets of the projections."""
    root = tmp_path_factory.mktemp("adapters")
    return {
        family: {
            name: random_adapter(root / family / name, base.path, seed=seed, **settings)
            for seed, (name, settings) in enumerate(ADAPTERS.items())
        }
        for family, base in bases.items()
    }


@pytest.fixture(scope="session")
def registries(
    bases: dict[str, Base],
    adapter_paths: dict[str, dict[str, Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A registry of each family with all of its adapters."""
    roots = {}
    for family, paths in adapter_paths.items():
        roots[family] = tmp_path_factory.mktemp("registry") / family
        for name, path in paths.items():
            Registry(roots[family]).register(path, name, bases[family], assume_base=True)
    return roots


@pytest.fixture
def publish(base: Base, tmp_path: Path) -> Publish:
    """Publishes random adapters for the qwen3 base in a registry of the test's own."""
    return Publish(base, tmp_path / "registry", tmp_path / "sources")
