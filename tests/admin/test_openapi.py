"""``lccc-admin openapi``: print, write, compare."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from admin.cli import main
from admin.commands import openapi
from server.app import describe


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["openapi", *arguments])


def test_it_prints_the_document() -> None:
    """The document alone on stdout, nothing on stderr, no engine."""
    result = run()

    assert result.stdout == describe().decode()
    assert (result.stderr, result.exit_code) == ("", 0)


def test_it_writes_the_document(tmp_path: Path) -> None:
    """The same bytes into a file."""
    target = tmp_path / "openapi.json"

    result = run("--output", str(target))

    assert target.read_bytes() == describe()
    assert result.stdout == ""


def test_check_accepts_the_committed_document() -> None:
    """Exit code 0 while code and document agree."""
    assert run("--check").exit_code == 0


@pytest.mark.parametrize("content", [None, b"{}"])
def test_check_refuses_an_old_or_missing_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """Exit code 1, and how to write it anew."""
    committed = tmp_path / "openapi.json"
    if content is not None:
        committed.write_bytes(content)
    monkeypatch.setattr(openapi, "COMMITTED", committed)

    result = run("--check")

    assert result.exit_code == 1
    assert f"lccc-admin openapi --output {committed}" in result.stderr


def test_check_writes_nothing(tmp_path: Path) -> None:
    """The two options are two wishes."""
    target = tmp_path / "openapi.json"

    assert run("--check", "--output", str(target)).exit_code == 2
    assert not target.exists()
