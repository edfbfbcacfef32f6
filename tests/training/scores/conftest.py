"""An adapter that makes a difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.base import Base
from tests.tiny import random_adapter


@pytest.fixture(scope="session")
def adapter(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random one over the tiny base."""
    return random_adapter(tmp_path_factory.mktemp("adapters") / "random", base.path)
