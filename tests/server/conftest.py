"""A real engine behind the application, for tests of the API as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from server.app import create_app
from server.settings import ServerSettings
from tests.tiny import tiny_base

RealClient = Callable[..., TestClient[Any]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of random weights, made once."""
    return tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture
def real(settings: ServerSettings, tiny: Path, routes_once: None) -> RealClient:
    """Makes clients of a server whose base is the tiny one; takes changes of the settings."""
    settings.home.bases.mkdir(parents=True)
    (settings.home.bases / "tiny").symlink_to(tiny)

    def start(**changes: Any) -> TestClient[Any]:
        changed = msgspec.structs.replace(settings, base="tiny", device="cpu", **changes)
        return TestClient(create_app(changed), base_url="http://127.0.0.1")

    return start


@pytest.fixture
def real_client(real: RealClient) -> Iterator[TestClient[Any]]:
    """A client of such a server, started."""
    with real() as client:
        yield client
