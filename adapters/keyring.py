"""The keys that clients of a server show: made and revoked by the owner of home.

Of a key only its SHA-256 is stored. The secret has 256 random bits, so that no slower hash is
needed: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from adapters.errors import LcccError
from adapters.storage import (
    Disk,
    FileRefused,
    exclusive_lock,
    make_directories,
    read_bytes,
    replace_file,
)

PREFIX = "lccc-"
MOST_BYTES = 1 << 20
_SHOWN = len(PREFIX) + 4

# What a key is good for. An admin key may do what an inference key may.
Scope = Literal["inference", "admin"]


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key. ``begins`` is the part of the secret that is shown; ``created`` is Unix seconds.

    Files from before there were scopes have none; their keys are for inference.
    """

    name: str
    begins: str
    created: int
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    scope: Scope = "inference"

    def may(self, scope: Scope) -> bool:
        """Whether it opens what needs ``scope``."""
        return self.scope in (scope, "admin")


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1]
    keys: tuple[Key, ...]


class KeyringUnreadable(LcccError):
    """The file of the keys cannot be read; nobody gets in until it can."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The keys in {path} cannot be read: {reason}. Mend the file, or remove it and make "
            "new keys with `lccc-admin keys create NAME`."
        )


class KeyringUnwritable(LcccError):
    """The file of the keys cannot be written; the keys are as they were."""

    def __init__(self, path: Path, reason: str | None) -> None:
        super().__init__(
            f"The keys in {path} could not be written: {reason}. They are as they were; make room "
            "or fix the permissions, then run the same command again."
        )


class KeyExists(LcccError):
    """There is a key of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is a key '{name}' already. Choose another name, or revoke it first with "
            f"`lccc-admin keys revoke {shlex.quote(name)}`."
        )


class KeyNotFound(LcccError):
    """There is no key of this name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        listed = ", ".join(known) if known else "none"
        super().__init__(f"There is no key '{name}'. Keys: {listed}.")


class Keyring:
    """The keys below ``directory``. Safe in several processes at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._disk = Disk()

    @property
    def path(self) -> Path:
        return self._directory / "keys.json"

    def keys(self) -> tuple[Key, ...]:
        """All keys, the oldest first.

        Raises:
            KeyringUnreadable: the file is damaged, or not readable for this user.
        """
        try:
            return msgspec.json.decode(read_bytes(self.path, MOST_BYTES), type=_File).keys
        except FileNotFoundError:
            return ()
        except (FileRefused, msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            raise KeyringUnreadable(self.path, str(error)) from error

    def create(self, name: str, scope: Scope = "inference") -> str:
        """Make a key called ``name``; returns the secret, which is stored nowhere.

        Raises:
            KeyExists, KeyringUnreadable, KeyringUnwritable
        """
        with self._writing():
            keys = self.keys()
            if any(key.name == name for key in keys):
                raise KeyExists(name)
            secret = new_secret()
            key = Key(
                name=name,
                begins=secret[:_SHOWN],
                created=int(time.time()),
                sha256=hashed(secret.encode()),
                scope=scope,
            )
            self._write((*keys, key))
        return secret

    def revoke(self, name: str) -> None:
        """Make the key called ``name`` invalid.

        Raises:
            KeyNotFound, KeyringUnreadable, KeyringUnwritable
        """
        if not self._directory.is_dir():
            raise KeyNotFound(name, ())
        with self._writing():
            keys = self.keys()
            kept = tuple(key for key in keys if key.name != name)
            if kept == keys:
                raise KeyNotFound(name, tuple(key.name for key in keys))
            self._write(kept)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            make_directories(self._disk, self._directory, 0o700)
            with exclusive_lock(self._directory / ".lock"):
                yield
        except OSError as error:
            raise KeyringUnwritable(self.path, error.strerror) from error

    def _write(self, keys: tuple[Key, ...]) -> None:
        encoded = msgspec.json.format(msgspec.json.encode(_File(version=1, keys=keys)), indent=2)
        replace_file(self._disk, self.path, encoded + b"\n")


def new_secret() -> str:
    """A secret that nobody has had before."""
    return PREFIX + secrets.token_urlsafe(32)


def hashed(secret: bytes) -> str:
    """The hex SHA-256 of a secret."""
    return hashlib.sha256(secret).hexdigest()


def find(keys: tuple[Key, ...], secret: bytes) -> Key | None:
    """The key that ``secret`` opens with, if any; how long it takes tells nothing about them."""
    given = hashed(secret)
    found = [key for key in keys if hmac.compare_digest(key.sha256, given)]
    return found[0] if found else None
