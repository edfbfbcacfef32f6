"""What was measured of an adapter: in its manifest, and not in its digest."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from adapters.base import Base, read_base
from adapters.errors import RegistryCorrupt
from adapters.manifest import EVALUATIONS_KEPT, MANIFEST_FILE, Evaluation, read_manifest
from adapters.registry import Registry
from tests.tiny import random_adapter, tiny_base


def measured(perplexity: float = 3.0, **changes: object) -> Evaluation:
    one = Evaluation(
        dataset="d",
        dataset_sha256="0" * 64,
        split="test",
        dialogues=10,
        replies=5,
        conditions="greedy",
        measured=1,
        metrics={"perplexity_per_character": perplexity},
    )
    return msgspec.structs.replace(one, **changes)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return read_base(tiny_base(tmp_path_factory.mktemp("bases") / "tiny"), "tiny")


@pytest.fixture(scope="module")
def source(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_adapter(tmp_path_factory.mktemp("source") / "a", base.path)


@pytest.fixture
def registry(tmp_path: Path, base: Base, source: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    registry.register(source, "a", base)
    return registry


def test_a_recorded_evaluation_is_read_with_the_adapter(registry: Registry) -> None:
    """Whoever reads the registry sees it, and a poller learns that something is new."""
    entry, before = registry.get("a"), registry.signature()

    registry.record_evaluation(entry, measured())

    assert registry.get("a").manifest.measured == (measured(),)
    assert registry.snapshot().entries["a"].manifest.measured == (measured(),)
    assert registry.signature() != before


def test_digest_blob_and_files_stay_as_they_were(registry: Registry) -> None:
    """To measure an adapter does not make another of it; every check still passes."""
    entry = registry.get("a")

    registry.record_evaluation(entry, measured())
    after = registry.get("a")

    assert (after.digest, after.path) == (entry.digest, entry.path)
    assert after.manifest.digest == entry.digest
    assert registry.verify("a") == []
    assert (after.path / MANIFEST_FILE).stat().st_mode & 0o777 == 0o444
    assert after.path.stat().st_mode & 0o777 == 0o555
    assert sorted(path.name for path in after.path.iterdir()) == [
        "adapter.json",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_the_same_adapter_registered_again_keeps_what_was_measured(
    registry: Registry, base: Base, source: Path
) -> None:
    """Under the same name or another: the blob is the same."""
    registry.record_evaluation(registry.get("a"), measured())

    again = registry.register(source, "b", base)

    assert again.digest == registry.get("a").digest
    assert registry.get("b").manifest.measured == (measured(),)


def test_an_adapter_copied_out_of_a_registry_takes_them_along(
    registry: Registry, base: Base, tmp_path: Path
) -> None:
    """They lie in its manifest."""
    registry.record_evaluation(registry.get("a"), measured())
    other = Registry(tmp_path / "other")

    copied = other.register(registry.get("a").path, "a", base)

    assert copied.digest == registry.get("a").digest
    assert other.get("a").manifest.measured == (measured(),)


def test_a_newer_one_on_the_same_split_takes_the_olders_place(registry: Registry) -> None:
    """Others stay, the oldest go when there are too many."""
    entry = registry.get("a")
    for number in range(EVALUATIONS_KEPT + 3):
        registry.record_evaluation(entry, measured(dataset_sha256=f"{number:064}"))
    registry.record_evaluation(entry, measured(2.5, dataset_sha256=f"{10:064}"))

    found = registry.get("a").manifest.measured

    assert len(found) == EVALUATIONS_KEPT
    assert found[-1].metrics == {"perplexity_per_character": 2.5}
    assert [one.dataset_sha256 for one in found].count(f"{10:064}") == 1


def test_what_was_measured_of_a_blob_stays_its_own(
    registry: Registry, base: Base, tmp_path: Path
) -> None:
    """The name got another adapter while the first was measured: that one is not praised."""
    entry = registry.get("a")
    newer = random_adapter(tmp_path / "newer", base.path, seed=9)
    registry.register(newer, "a", base)

    registry.record_evaluation(entry, measured())

    assert registry.get("a").manifest.measured == ()
    manifest = read_manifest(entry.path)
    assert manifest is not None
    assert manifest.measured == (measured(),)


def test_a_manifest_changed_in_anything_else_is_still_seen(registry: Registry) -> None:
    """What the digest stands for is held as before."""
    entry = registry.get("a")
    registry.record_evaluation(entry, measured())
    path = entry.path / MANIFEST_FILE
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"rank": 4', b'"rank": 5'))

    with pytest.raises(RegistryCorrupt, match="not what was registered"):
        registry.get("a")
    with pytest.raises(RegistryCorrupt, match="cannot be kept"):
        registry.record_evaluation(entry, measured())
