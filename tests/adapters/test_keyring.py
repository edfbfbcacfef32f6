"""Keys: made once, stored as hashes, revoked by name."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from adapters.keyring import (
    KeyExists,
    KeyNotFound,
    Keyring,
    KeyringUnreadable,
    KeyringUnwritable,
    find,
    hashed,
)
from tests.adapters.disks import FullDisk


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "home" / "keys")


def test_a_full_disk_leaves_the_keys_as_they_were(keyring: Keyring) -> None:
    """And is told as one, with what to do, whether a key was to come or to go."""
    keyring.create("laptop")
    before = keyring.keys()
    keyring._disk = FullDisk(0)
    for change in (lambda: keyring.create("phone"), lambda: keyring.revoke("laptop")):
        with pytest.raises(KeyringUnwritable, match=r"No space left on device.*make room"):
            change()
    assert keyring.keys() == before


def test_a_secret_opens_and_is_not_stored(keyring: Keyring) -> None:
    """What lies on the disk is its hash and how it begins."""
    secret = keyring.create("laptop")
    other = keyring.create("phone")

    keys = keyring.keys()
    assert [key.name for key in keys] == ["laptop", "phone"]
    assert find(keys, secret.encode()) == keys[0]
    assert find(keys, other.encode()) == keys[1]
    assert find(keys, secret[:-1].encode()) is None
    assert find(keys, b"") is None
    assert secret.startswith(keys[0].begins)
    assert len(secret) > 40 > len(keys[0].begins) * 4
    assert secret.encode() not in keyring.path.read_bytes()
    assert hashed(secret.encode()) in keyring.path.read_text()


def test_nobody_else_looks_into_the_directory(keyring: Keyring) -> None:
    """Its owner alone."""
    keyring.create("laptop")

    assert keyring.path.parent.stat().st_mode & 0o077 == 0


def test_a_revoked_key_is_gone(keyring: Keyring) -> None:
    """The others stay."""
    secret, other = keyring.create("laptop"), keyring.create("phone")

    keyring.revoke("laptop")

    assert find(keyring.keys(), secret.encode()) is None
    assert find(keyring.keys(), other.encode()) is not None


def test_names_are_unique_and_known(keyring: Keyring) -> None:
    """The messages say what to do, and what there is."""
    with pytest.raises(KeyNotFound, match="none"):
        keyring.revoke("laptop")
    keyring.create("phone")
    with pytest.raises(KeyExists, match="keys revoke phone"):
        keyring.create("phone")
    keyring.create("my laptop")
    with pytest.raises(KeyExists, match="keys revoke 'my laptop'"):
        keyring.create("my laptop")
    with pytest.raises(KeyNotFound, match=r"'laptop'.*phone"):
        keyring.revoke("laptop")


ENTRY = b'{"name": "a", "begins": "l", "created": 1, "sha256": "%s"}'


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[]", b"{}", b"\xff", b'{"version": 1}', b'{"keys": []}'),
        *(b'{"version": 2, "keys": []}', b'{"version": 1, "keys": [], "more": 1}'),
        b'{"version": 1, "keys": [{}]}',
        b'{"version": 1, "keys": [' + (ENTRY % (b"0" * 64))[:-1] + b', "scope": "root"}]}',
        b'{"version": 1, "keys": [' + ENTRY % b"\xc3\xa9" + b"]}",
        b'{"version": 1, "keys": [' + ENTRY % b"\xff" + b"]}",
    ],
)
def test_a_damaged_file_is_no_empty_one(keyring: Keyring, text: bytes) -> None:
    """Whoever takes it for empty would let everyone in, or lose the other keys."""
    keyring.create("laptop")
    keyring.path.write_bytes(text)

    for act in (keyring.keys, lambda: keyring.create("x"), lambda: keyring.revoke("laptop")):
        with pytest.raises(KeyringUnreadable, match=r"keys\.json"):
            act()
    assert keyring.path.read_bytes() == text


def test_a_key_has_a_scope(keyring: Keyring) -> None:
    """Inference, unless it is an admin's, which may do that as well."""
    keyring.create("laptop")
    keyring.create("ops", "admin")

    laptop, ops = keyring.keys()

    assert (laptop.may("inference"), laptop.may("admin")) == (True, False)
    assert (ops.may("inference"), ops.may("admin")) == (True, True)


def test_a_key_from_before_there_were_scopes_is_for_inference(keyring: Keyring) -> None:
    """And it stays so when another key is added."""
    keyring.path.parent.mkdir(parents=True)
    keyring.path.write_bytes(b'{"version": 1, "keys": [' + ENTRY % (b"0" * 64) + b"]}")

    keyring.create("ops", "admin")

    old, new = keyring.keys()
    assert (old.name, old.scope) == ("a", "inference")
    assert (new.name, new.scope) == ("ops", "admin")


def test_two_at_once_lose_nothing(keyring: Keyring) -> None:
    """Writers wait for each other."""
    makers = [threading.Thread(target=keyring.create, args=(f"key {n}",)) for n in range(12)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()

    assert len(keyring.keys()) == 12
