"""What the doctor learns of this machine."""

from __future__ import annotations

import sys

import pytest
import torch

from training.devices import check_nf4, describe_devices


def test_nf4_computes_here() -> None:
    """Forward and backward through a real quantised layer; on CPUs too."""
    assert check_nf4() is None


def test_a_bitsandbytes_that_breaks_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kind and its words, whatever it raised."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr("bitsandbytes.nn.Linear4bit", broken)

    assert check_nf4() == "RuntimeError: no kernel for this device"


def test_a_bitsandbytes_that_is_not_there_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training without quantisation is still possible, so this is no crash."""
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)

    assert str(check_nf4()).startswith("ModuleNotFoundError: ")


def test_lost_gradients_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that computes but lets no finite gradient through cannot train."""

    class Lossy(torch.nn.Module):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__()

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows * float("inf")

    monkeypatch.setattr("bitsandbytes.nn.Linear4bit", Lossy)

    assert check_nf4() == "its gradients are not finite"


def test_the_cpu_comes_first_and_a_missing_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to guess from silence."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    cpu, gpu = describe_devices()

    assert cpu.name == "CPU"
    assert f"{torch.get_num_threads()} threads" in cpu.found
    assert "GiB free" in cpu.found
    assert (gpu.name, gpu.found) == ("GPU", "none; training and serving run on the CPU")
