"""A tiny base, an adapter for it, and an empty registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.base import Base, read_base
from adapters.manifest import CONFIG_FILE, WEIGHTS_FILE
from adapters.registry import Registry
from tests.tiny import random_adapter, tiny_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    path = tiny_base(tmp_path_factory.mktemp("bases") / "tiny")
    return read_base(path, "tiny")


@pytest.fixture
def source(tmp_path: Path, base: Base) -> Path:
    """A directory with an adapter that may be registered."""
    return random_adapter(tmp_path / "source", base.path)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def edit_config(directory: Path, **changes: Any) -> Path:
    """Change fields of ``adapter_config.json``; ``...`` deletes one."""
    path = directory / CONFIG_FILE
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return directory


def edit_tensors(
    directory: Path, edit: Callable[[dict[str, torch.Tensor]], object]
) -> dict[str, torch.Tensor]:
    """Let ``edit`` change the tensors of the adapter in place; returns them as they are then."""
    tensors = load_file(directory / WEIGHTS_FILE)
    edit(tensors)
    save_file(tensors, directory / WEIGHTS_FILE)
    return tensors
