"""Real demos in empty homes, for every test that needs models that converse."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from click.testing import CliRunner, Result

from adapters.home import Home

BRIEF_STEPS = 500  # instead of 1,200; of what a pocket then says, half is to the point
BRIEFLY = f"""
from functools import partial
from training.pocket import base
base.PocketShape = partial(base.PocketShape, steps={BRIEF_STEPS})
from admin.cli import main
main()
"""
WIDE = {"COLUMNS": "200"}


@dataclass(frozen=True)
class Demo:
    """What `lccc-admin demo --once` printed and left behind."""

    home: Home
    stdout: str
    stderr: str


def lccc_admin(home: Home, *arguments: str) -> Result:
    """Run the command line, in this process: in another, torch alone takes seconds to load."""
    from admin.cli import main

    return CliRunner().invoke(main, ["--home", str(home.root), *arguments], env=WIDE)


def made_in(home: Home, *, briefly: bool) -> Demo:
    """The whole way: pocket built, two adapters trained, served and asked. Takes minutes.

    As a user goes it, but that ``briefly`` leaves out some steps of building.
    """
    program = ["-c", BRIEFLY] if briefly else ["-m", "admin"]
    done = subprocess.run(
        [sys.executable, *program, "demo", "--once", "--port", "0"],
        env={**os.environ, "LCCC_HOME": str(home.root), **WIDE},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return Demo(home, done.stdout, done.stderr)
