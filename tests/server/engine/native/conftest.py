"""The kernels of this processor, and of lesser ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.engine.native.build import library
from tests.server.engine.native.processors import KINDS, Processor


@pytest.fixture(scope="session")
def narrow_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("narrow")


@pytest.fixture(params=KINDS)
def lesser(request: pytest.FixtureRequest, narrow_directory: Path) -> Processor:
    """A processor that has less than this one, as far as this one has more."""
    ours = library()
    assert ours is not None
    return Processor(request.param, ours, narrow_directory)
