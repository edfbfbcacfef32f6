"""``lccc-admin keys``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.keyring import Keyring, find
from admin.cli import main
from admin.commands.serve import banner
from server.process import Serving
from tests.fakes import card


def keys(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), "keys", *arguments])


def test_a_key_is_printed_alone_and_once(tmp_path: Path) -> None:
    """On stdout nothing but the secret; the rest is for the person."""
    made = keys(tmp_path, "create", "my laptop")
    second = keys(tmp_path, "create", "phone")

    secret = made.stdout.strip()
    assert made.exit_code == 0
    assert find(Keyring(tmp_path / "keys").keys(), secret.encode()) is not None
    assert "first key" in made.stderr
    assert "first key" not in second.stderr
    assert secret not in made.stderr


def test_keys_are_listed_without_their_secrets(tmp_path: Path) -> None:
    """As a table and as JSON; with none there is a word about what that means."""
    empty = keys(tmp_path, "list")
    secret = keys(tmp_path, "create", "laptop").stdout.strip()
    table, found = keys(tmp_path, "list"), keys(tmp_path, "list", "--json")

    assert "everyone on this machine" in empty.stderr
    assert "laptop" in table.stdout
    assert secret[:9] in table.stdout
    assert secret not in table.stdout + found.stdout
    (listed,) = json.loads(found.stdout)["keys"]
    assert (listed["name"], listed["begins"]) == ("laptop", secret[:9])


def test_a_key_gets_the_scope_that_was_asked_for(tmp_path: Path) -> None:
    """Inference by default; it is said when the key is made, and listed."""
    plain = keys(tmp_path, "create", "laptop")
    admins = keys(tmp_path, "create", "ops", "--scope", "admin")

    listed = json.loads(keys(tmp_path, "list", "--json").stdout)["keys"]

    assert [(key["name"], key["scope"]) for key in listed] == [
        ("laptop", "inference"),
        ("ops", "admin"),
    ]
    assert "inference key 'laptop'" in plain.stderr
    assert "admin key 'ops'" in admins.stderr
    assert "SCOPE" in keys(tmp_path, "list").stdout
    assert keys(tmp_path, "create", "x", "--scope", "root").exit_code == 2


def test_a_key_is_revoked_by_name(tmp_path: Path) -> None:
    """What that means for the server is said when it was the last."""
    for name in ("laptop", "phone"):
        keys(tmp_path, "create", name)

    first, last = keys(tmp_path, "revoke", "laptop"), keys(tmp_path, "revoke", "phone")

    assert (first.exit_code, last.exit_code) == (0, 0)
    assert "It was the last" not in first.stderr
    assert "It was the last" in last.stderr
    assert keys(tmp_path, "revoke", "phone").exit_code == 1


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 65, " a", "\x1b[2J"])
def test_a_name_is_one_short_line(tmp_path: Path, name: str) -> None:
    """It is shown in terminals."""
    assert keys(tmp_path, "create", name).exit_code == 2


def test_the_banner_shows_how_to_send_a_key() -> None:
    """Only where one is needed."""
    serving = Serving(base_url="http://127.0.0.1:8000", models=(card("base"),))

    assert "Bearer" not in banner(serving)
    assert '-H "authorization: Bearer $LCCC_API_KEY" \\' in banner(serving, needs_key=True)
    assert 'api_key=os.environ["LCCC_API_KEY"]' in banner(serving, needs_key=True)
