"""``lccc-admin jobs``: what the console has started, seen and ended from a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters.home import Home
from admin.cli import main
from server.console.jobs import Jobs
from tests.records import make_run


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def lccc_admin(home: Home, *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["--home", str(home.root), "jobs", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_a_job_is_listed_shown_and_cancelled(home: Home) -> None:
    """The command line sees the very state that the console does, and ends what it began."""
    run = make_run(home.runs, state="running")
    with run.held():
        job = Jobs(home).start("train", "bot", ["runs", "watch", run.id])
        (listed,) = json.loads(lccc_admin(home, "list", "--json")[1])
        assert (listed["id"], listed["state"], listed["subject"]) == (job.id, "running", "bot")

        code, _, said = lccc_admin(home, "cancel", job.id)

        assert (code, said) == (0, f"The job {job.id} is cancelled.\n")
    shown = json.loads(lccc_admin(home, "show", job.id, "--json")[1])
    assert (shown["state"], shown["error"]) == ("cancelled", None)
    assert job.id in lccc_admin(home, "list")[1]
    assert "cancelled" in lccc_admin(home, "show", job.id)[1]
    code, _, said = lccc_admin(home, "cancel", job.id)
    assert (code, "it is cancelled" in said) == (1, True)


def test_no_job_is_said_with_a_way_on(home: Home) -> None:
    """An empty list, and an id that none has."""
    assert "The console starts them" in lccc_admin(home, "list")[2]
    code, _, said = lccc_admin(home, "show", "20260101000000-00000000")
    assert (code, "jobs list" in said) == (1, True)
