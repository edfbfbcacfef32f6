"""Who computes a base on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.base import Base
from server.engine import model
from server.engine.config import EngineConfig
from server.engine.spec import read_spec


def test_gpus_that_triton_is_not_for_are_left_to_torch(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before Ampere kernels take minutes to compile, and then have no matrix units."""
    monkeypatch.setattr(model, "find_spec", lambda _: object())
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (7, 5))
    config = EngineConfig(base=base, registry_root=tmp_path, device="cuda")

    assert model._cuda(config, read_spec(base)) is None
    assert "this one has 7.5: replies will come much more slowly" in caplog.text
