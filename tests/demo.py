"""One real demo in an empty home, for every test that needs models that converse."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from adapters.home import Home


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


def made_in(home: Home) -> Demo:
    """The whole way: pocket built, two adapters trained, served and asked. Takes a minute."""
    done = lccc_admin(home, "demo", "--once", "--port", "0", timeout_s=600)
    assert done.returncode == 0, done.stderr
    return Demo(home, done.stdout, done.stderr)
