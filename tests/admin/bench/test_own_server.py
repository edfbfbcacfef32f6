"""A server process of our own: found by its banner, ended, and explained if it does not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.bench.errors import BenchFailed
from admin.bench.own_server import _READY, OwnServer, own_server
from admin.commands.serve import banner
from server.process import Serving
from tests.fakes import card


@pytest.mark.parametrize("models", [("pocket",), ("pocket", "a", "b", "c", "d", "e", "f")])
def test_the_banner_tells_the_address(models: tuple[str, ...]) -> None:
    """Of all its lines one matches, with the API's address and nothing else."""
    text = banner(
        Serving(base_url="http://127.0.0.1:8123", models=tuple(card(name) for name in models))
    )

    found = [match[1] for line in text.splitlines() if (match := _READY.search(line))]

    assert found == ["http://127.0.0.1:8123/v1"]


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """Its last words and its exit code; no process is left."""
    with (
        pytest.raises(
            BenchFailed, match=r"(?s)did not start .exit code 1.*'nobody' is not on this"
        ),
        own_server(tmp_path, ["--base", "nobody"], print),
    ):
        pytest.fail("it must not get here")


def test_it_is_ended_while_it_still_loads(tmp_path: Path) -> None:
    """Without waiting for it to be ready."""
    server = OwnServer(tmp_path, ["--base", "nobody"])
    assert server.is_running

    server.stop()

    assert not server.is_running
    assert server.url == ""
