"""Whether a run's files are whole: each is hashed, each problem named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from tests.records import make_run
from training.runs import EventLog, Run
from training.runs.checkpoints import CheckpointManifest
from training.runs.verification import verify


def checkpoint(run: Run, step: int) -> Path:
    """A checkpoint as it lies on the disk."""
    path = run.checkpoints / f"step-{step}"
    path.mkdir()
    contents = {"lora.safetensors": b"weights", "state.pt": b"state"}
    for name, content in contents.items():
        (path / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest = CheckpointManifest(step=step, identity={}, files=hashes)
    (path / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two checkpoints and an adapter."""
    run = make_run(tmp_path)
    checkpoint(run, 9)
    checkpoint(run, 10)
    run.adapter.mkdir()
    (run.adapter / "adapter.json").write_bytes(b"{}")
    log = EventLog(run.events_path)
    log.append("adapter", 10, files={"adapter.json": hashlib.sha256(b"{}").hexdigest()})
    log.close()
    return run


def test_a_whole_run_has_no_problems(run: Run) -> None:
    """Each checkpoint, newest first, and the adapter."""
    found = verify(run)

    assert list(found) == ["checkpoints/step-10", "checkpoints/step-9", "adapter"]
    assert list(found.values()) == [[], [], []]


def test_every_damage_is_named(run: Run) -> None:
    """Changed, gone, replaced by a link, and a manifest that is none."""
    (run.checkpoints / "step-9" / "state.pt").write_bytes(b"State")
    (run.checkpoints / "step-10" / "manifest.json").write_bytes(b"{")
    (run.adapter / "adapter.json").unlink()

    found = verify(run)

    assert found["checkpoints/step-9"] == ["state.pt is damaged"]
    assert "manifest.json is damaged" in found["checkpoints/step-10"][0]
    assert found["adapter"] == ["adapter.json is missing"]

    (run.adapter / "adapter.json").symlink_to("/etc/hostname")
    assert "symbolic link" in verify(run)["adapter"][0]


def test_a_run_without_files_has_nothing_to_verify(tmp_path: Path) -> None:
    """It has not got so far."""
    assert verify(make_run(tmp_path)) == {}
