"""One training a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.device_lock import device_held, lock_held
from training.errors import DeviceBusy


def test_a_device_has_one_holder(tmp_path: Path) -> None:
    """The second is told which process is on it; another device is another lock."""
    with lock_held(tmp_path, "GPU-1", "a GPU"):
        with (
            pytest.raises(DeviceBusy, match=rf"\(a GPU\) \(process {os.getpid()}\)"),
            lock_held(tmp_path, "GPU-1", "a GPU"),
        ):
            pass
        with lock_held(tmp_path, "GPU-2", "a GPU"):
            pass
    with lock_held(tmp_path, "GPU-1", "a GPU"):
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    """The file stays, the lock does not."""
    code = (
        "import sys, pathlib, os; from training.device_lock import lock_held\n"
        "with lock_held(pathlib.Path(sys.argv[1]), 'GPU-1', 'a GPU'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)

    assert list(tmp_path.iterdir()) == [tmp_path / "lccc-chat-GPU-1.lock"]
    with lock_held(tmp_path, "GPU-1", "a GPU"):
        pass


def test_no_link_is_followed(tmp_path: Path) -> None:
    """The directory is everyone's: a lock file cannot be pointed at somebody's data."""
    (tmp_path / "victim").write_text("data")
    (tmp_path / "lccc-chat-GPU-1.lock").symlink_to(tmp_path / "victim")

    with pytest.raises(OSError, match="symbolic"), lock_held(tmp_path, "GPU-1", "a GPU"):
        pass
    assert (tmp_path / "victim").read_text() == "data"


def test_on_a_cpu_trainings_run_beside_each_other(tmp_path: Path) -> None:
    """They share it as any other program does."""
    with device_held(torch.device("cpu"), tmp_path), device_held(torch.device("cpu"), tmp_path):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
def test_a_gpu_is_held_by_its_own_name(tmp_path: Path) -> None:
    """Whatever number CUDA_VISIBLE_DEVICES gives it."""
    device = torch.device("cuda", 0)
    with (
        device_held(device, tmp_path),
        pytest.raises(DeviceBusy, match=torch.cuda.get_device_name(device)),
        device_held(device, tmp_path),
    ):
        pass
