"""One real demo in an empty home, and a server over what it made, for all end-to-end tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.home import Home
from server.background import serve_in_thread
from server.process import Serving
from server.settings import ServerSettings


@dataclass(frozen=True)
class Demo:
    """What `lccc-admin demo --once` printed and left behind."""

    home: Home
    stdout: str
    stderr: str


def lccc_admin(
    home: Home, *arguments: str, timeout_s: float = 170
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "admin", *arguments],
        env={**os.environ, "LCCC_HOME": str(home.root), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The whole way, once: pocket built, two adapters trained, served and asked."""
    home = Home(tmp_path_factory.mktemp("demo") / "home")
    done = lccc_admin(home, "demo", "--once", "--port", "0", timeout_s=600)
    assert done.returncode == 0, done.stderr
    return Demo(home, done.stdout, done.stderr)


@pytest.fixture
def home(demo: Demo, tmp_path: Path) -> Home:
    """A copy of the demo's home that a test may change."""
    copy = tmp_path / "home"
    shutil.copytree(demo.home.root, copy)
    return Home(copy)


@pytest.fixture
def serving(home: Home) -> Iterator[Serving]:
    """A live server with the real engine over that copy."""
    settings = ServerSettings(home=home, base="pocket", port=0, drain_timeout_s=2.0)
    with serve_in_thread(settings) as running:
        yield running
