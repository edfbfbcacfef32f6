"""Checkpoints: complete or absent, verified before use."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from adapters.storage import Disk
from training.execution.checkpoint import (
    newest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    set_aside_after,
    weights_at,
)

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3)}


def save(root: Path, step: int, **changes: object) -> Path:
    """A small checkpoint."""
    content: dict[str, object] = {
        "weights": WEIGHTS,
        "state": {"optimizer": {"step": step}, "random": {"cpu": torch.get_rng_state()}},
        "identity": {"dataset": "abc"},
    }
    return save_checkpoint(root, step=step, **(content | changes))  # type: ignore[arg-type]


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    """Weights, state and identity return as they were."""
    save(tmp_path, 4)

    found, problems = newest_checkpoint(tmp_path)

    assert found is not None
    assert problems == []
    assert torch.equal(found.weights()["a"], WEIGHTS["a"])
    assert found.state()["optimizer"] == {"step": 4}
    assert found.manifest.identity == {"dataset": "abc"}


def test_the_newest_is_newest_by_number(tmp_path: Path) -> None:
    """Step 10 is newer than step 9."""
    for step in (9, 10, 2):
        save(tmp_path, step)

    found, _ = newest_checkpoint(tmp_path)

    assert found is not None
    assert found.manifest.step == 10


@pytest.mark.parametrize("damage", ["lora.safetensors", "state.pt", "manifest.json"])
@pytest.mark.parametrize("how", ["truncated", "missing", "changed"])
def test_a_damaged_one_is_passed_over_and_named(tmp_path: Path, damage: str, how: str) -> None:
    """Any damage to any file falls back to the one before, and says so."""
    save(tmp_path, 1)
    file = save(tmp_path, 2) / damage
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])

    found, problems = newest_checkpoint(tmp_path)

    assert found is not None
    assert found.manifest.step == 1
    assert len(problems) == 1
    assert problems[0].startswith("step-2: ")


def test_nothing_usable_is_none(tmp_path: Path) -> None:
    """An empty directory has no checkpoint and no complaint."""
    assert newest_checkpoint(tmp_path) == (None, [])


def test_a_failed_save_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle of a save keeps the older checkpoint and no half one."""
    save(tmp_path, 1)

    real = Disk.write

    def full(self: Disk, path: Path, blocks: Iterable[bytes]) -> None:
        real(self, path, [b"".join(blocks)[:10]])
        if path.name == "state.pt":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Disk, "write", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2)

    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_a_file_that_grows_too_large_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """The kernel's own refusal in the middle of a file comes as what it is, and leaves no trace."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save(tmp_path, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert list(tmp_path.iterdir()) == []


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    """Old ones go, the best stays however old, and leftovers of killed saves go."""
    for step in (1, 2, 3, 4, 5):
        save(tmp_path, step)
    (tmp_path / ".staged-dead").mkdir()

    prune_checkpoints(tmp_path, keep=2, best_step=2)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-2", "step-4", "step-5"]


def test_weights_are_usable_without_the_rest(tmp_path: Path) -> None:
    """To publish the best step only its weights are needed; damaged weights are refused."""
    path = save(tmp_path, 2)
    (path / "state.pt").write_bytes(b"torn")

    assert torch.equal(weights_at(tmp_path, 2)["a"], WEIGHTS["a"])
    (path / "lora.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"lora\.safetensors is damaged"):
        weights_at(tmp_path, 2)


def test_what_is_set_aside_no_longer_counts(tmp_path: Path) -> None:
    """Damaged newer checkpoints take no place of good ones when pruning, and are not deleted."""
    for step in (1, 2, 3):
        save(tmp_path, step)

    set_aside_after(tmp_path, 2)
    prune_checkpoints(tmp_path, keep=1, best_step=None)

    kept = sorted(path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir())
    assert kept == ["damaged-step-3", "step"]
    assert (tmp_path / "step-2").is_dir()
