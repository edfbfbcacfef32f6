"""``lccc-admin serve``: options, banner, and what keeps it from starting."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from adapters.home import Home
from admin.cli import main
from admin.commands.serve import banner
from server.process import Serving, listen
from server.settings import ServerSettings
from tests.fakes import card


def serve(tmp_path: Path, *arguments: str, **environment: str) -> Result:
    command = ["--home", str(tmp_path), "serve", *arguments]
    return CliRunner().invoke(main, command, env=environment)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ServerSettings]:
    """The settings that servers would have been started with."""
    settings: list[ServerSettings] = []

    def run(given: ServerSettings, **_: Any) -> None:
        settings.append(given)

    monkeypatch.setattr("server.__main__.run", run)
    return settings


def test_without_options_the_defaults_are_the_servers_own(
    tmp_path: Path, started: list[ServerSettings]
) -> None:
    """What ``--help`` shows is what ``ServerSettings`` says."""
    assert serve(tmp_path).exit_code == 0
    assert started == [ServerSettings(home=Home(tmp_path))]


def test_options_become_settings(tmp_path: Path, started: list[ServerSettings]) -> None:
    """All of them arrive, from the command line or the environment."""
    options = "--base b --port 1 --host ::1 --weights bf16 --device cpu --max-running 2"
    options += " --max-waiting 0 --allowed-host x --allowed-host y --drain-timeout 4"
    options += " --api-key k --admin-key l --adapter-root /a --adapter-root /b"

    serve(tmp_path, *options.split(), LCCC_MAX_CONTEXT="64", LCCC_ALLOW_UNAUTHENTICATED="1")

    assert started == [
        ServerSettings(
            home=Home(tmp_path),
            base="b",
            port=1,
            host="::1",
            weights="bf16",
            device="cpu",
            max_running=2,
            max_waiting=0,
            max_context=64,
            allowed_hosts=("x", "y"),
            api_key="k",
            admin_key="l",
            adapter_roots=(Path("/a"), Path("/b")),
            allow_unauthenticated=True,
            drain_timeout_s=4.0,
        )
    ]


@pytest.mark.parametrize(
    "option", ["--port=70000", "--max-running=0", "--max-context=1", "--weights=int3"]
)
def test_impossible_values_are_usage_errors(tmp_path: Path, option: str) -> None:
    """Exit code 2 before anything is loaded."""
    assert serve(tmp_path, option).exit_code == 2


def test_a_missing_base_comes_with_advice(tmp_path: Path) -> None:
    """One message on stderr, exit code 1, stdout untouched."""
    result = serve(tmp_path, "--base", "nobody", "--port", "0")

    assert result.exit_code == 1
    assert "The base 'nobody' is not on this machine" in result.stderr
    assert "lccc-admin base" in result.stderr
    assert result.stdout == ""


def test_the_network_is_refused(tmp_path: Path) -> None:
    """With the reason and the switch that allows it."""
    result = serve(tmp_path, "--host", "0.0.0.0", "--port", "0")

    assert result.exit_code == 1
    assert "--allow-unauthenticated" in result.stderr


def test_a_taken_port_is_named(tmp_path: Path, settings: ServerSettings) -> None:
    """And how to choose another."""
    with listen(settings) as other:
        port = str(other.getsockname()[1])
        result = serve(tmp_path, "--port", port)

    assert result.exit_code == 1
    assert f"Port {port} on 127.0.0.1 is taken" in result.stderr
    assert "--port 0" in result.stderr


def test_the_banner_shows_how_to_begin() -> None:
    """What is served and where, lines to copy (of an adapter if there is one), a token."""
    models = (card("pocket"), card("joker", "pocket"), card("poet", "pocket"))

    assert banner(Serving(base_url="http://127.0.0.1:8000", models=models, token="lccc-t")) == (
        """
  Serving pocket and 2 adapters (joker, poet) at http://127.0.0.1:8000/v1

  curl http://127.0.0.1:8000/v1/chat/completions \\
    -H 'content-type: application/json' -d '"""
        """{"model": "joker", "messages": [{"role": "user", "content": "你好"}]}'

  OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")   # Python
  lccc-admin chat --url http://127.0.0.1:8000/v1

  The API, to try out: http://127.0.0.1:8000/docs
  One-time token (an admin key until this server ends): lccc-t

  Ctrl-C stops.
"""
    )


def test_roots_of_adapters_come_from_the_environment(
    tmp_path: Path, started: list[ServerSettings]
) -> None:
    """Several, separated as in ``PATH``."""
    serve(tmp_path, LCCC_ADAPTER_ROOTS=os.pathsep.join(["/a b", "/c"]))

    assert started[0].adapter_roots == (Path("/a b"), Path("/c"))


def test_the_banner_counts_adapters() -> None:
    """None, one, and more than a line could hold."""

    def first_line(count: int) -> str:
        adapters = [card(f"a{index}", "pocket") for index in range(count)]
        return banner(Serving(base_url="u", models=(card("pocket"), *adapters))).split("\n")[1]

    assert "pocket and no adapter yet at" in first_line(0)
    assert "pocket and 1 adapter (a0) at" in first_line(1)
    assert "pocket and 7 adapters (a0, a1, a2, a3, a4, ...) at" in first_line(7)
