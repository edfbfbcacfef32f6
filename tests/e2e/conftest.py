"""A server over what the demo made, for all end-to-end tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.home import Home
from server.background import serve_in_thread
from server.process import Serving
from server.settings import ServerSettings
from tests.demo import Demo


@pytest.fixture
def home(demo: Demo, tmp_path: Path) -> Home:
    """A copy of the demo's home that a test may change."""
    copy = tmp_path / "home"
    shutil.copytree(demo.home.root, copy)
    return Home(copy)


@pytest.fixture(scope="package")
def standing(demo: Demo) -> Iterator[Serving]:
    """A live server with the real engine over the demo's own home, for tests that only ask."""
    settings = ServerSettings(home=demo.home, base="pocket", port=0, drain_timeout_s=2.0)
    with serve_in_thread(settings) as running:
        yield running


@pytest.fixture
def serving(home: Home) -> Iterator[Serving]:
    """A live server with the real engine over that copy."""
    settings = ServerSettings(home=home, base="pocket", port=0, drain_timeout_s=2.0)
    with serve_in_thread(settings) as running:
        yield running
