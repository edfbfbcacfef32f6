"""Registers adapters for clients and takes names away, as `lccc-admin adapters` does by hand.

What the registry holds survives a restart; the engine is told to look at it before we say that it
is done. Paths come from clients, so only directories below allowed ones are ever looked at.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from adapters.errors import (
    AdapterError,
    AdapterExists,
    AdapterInvalid,
    AdapterNotFound,
    NameRefused,
)
from adapters.manifest import CONFIG_FILE, MANIFEST_FILE
from adapters.registry import Entry, Registry
from server.engine.types import Engine
from server.errors import Problem, Refused
from server.settings import ServerSettings

logger = logging.getLogger(__name__)

# A client that tries again gets the same answer.
_FINAL = {"x-should-retry": "false"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """What an endpoint calls the adapter's ``name``, its ``source``, and that it ``replaces``."""

    name: str
    source: str
    replaces: str


class Registrar:
    """Writes the registry of ``settings`` for the base that ``engine`` serves.

    One change at a time: copying and checking are heavy, and replies are being computed meanwhile.
    """

    def __init__(self, settings: ServerSettings, engine: Engine) -> None:
        self._engine = engine
        self._registry = Registry(settings.home.registry)
        self._roots = (settings.home.runs, *settings.adapter_roots)
        self._writing = asyncio.Lock()

    async def load(
        self,
        name: str,
        path: str,
        words: Words,
        *,
        replaces: bool = False,
        assume_base: bool = False,
    ) -> Entry:
        """Register the adapter in ``path`` as ``name``; it can be used when this returns.

        Refusals are in the endpoint's ``words``.

        Raises:
            Refused: 400, 403 or 404 for what the client has to change; the registry is as before.
                503 if it could not be written.
        """
        async with self._writing:
            entry = await asyncio.to_thread(
                self._register, name, path, words, replaces=replaces, assume_base=assume_base
            )
        await self._engine.refresh()
        logger.info("Registered '%s' (%s) from %s.", name, entry.digest[:12], path)
        return entry

    async def unload(self, name: str, param: str) -> None:
        """Forget ``name``. Replies that are being written keep the version they began with.

        A refusal calls the name ``param``.

        Raises:
            Refused: 404 if there is none; 503 if the registry could not be written.
        """
        async with self._writing:
            await asyncio.to_thread(self._remove, name, param)
        await self._engine.refresh()
        logger.info("Removed '%s'.", name)

    async def rename(self, name: str, to: str) -> Entry:
        """Serve ``name`` as ``to`` from now on.

        Raises:
            Refused: 400 for a name that is taken or cannot be used, 404 where there is none; 503 if
                it is broken, or the registry could not be written.
        """
        async with self._writing:
            entry = await asyncio.to_thread(self._rename, name, to)
        await self._engine.refresh()
        logger.info("Renamed '%s' to '%s'.", name, to)
        return entry

    def packed(self, name: str) -> IO[bytes]:
        """A ZIP file of the adapter's files, each as it was registered; reads and hashes them.

        Raises:
            Refused: 404 if there is none, 503 if it is damaged.
        """
        try:
            entry = self._registry.get(name)
            file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 # who reads it closes it
            with zipfile.ZipFile(file, "w") as archive:
                for ref in entry.manifest.files:
                    archive.writestr(ref.name, entry.read(ref.name))
                archive.writestr(MANIFEST_FILE, entry.manifest.encoded())
        except AdapterNotFound as error:
            raise Refused(_problem(404, str(error), "name", "adapter_not_found")) from error
        except AdapterError as error:
            raise Refused(_unwritable(error)) from error
        file.seek(0)
        return file

    # In a thread

    def _rename(self, name: str, to: str) -> Entry:
        base = self._engine.base.name
        try:
            self._registry.check_name(to, base)
            return self._registry.rename(name, to, base)
        except NameRefused as error:
            raise Refused(_problem(400, str(error), "to")) from error
        except AdapterNotFound as error:
            raise Refused(_problem(404, str(error), "name", "adapter_not_found")) from error
        except AdapterExists as error:
            raise Refused(_problem(400, str(error), "to", "adapter_exists", _FINAL)) from error
        except AdapterError as error:
            raise Refused(_unwritable(error)) from error

    def _register(
        self, name: str, path: str, words: Words, *, replaces: bool, assume_base: bool
    ) -> Entry:
        try:
            self._registry.check_name(name, self._engine.base.name)
            source = self._source(path, words.source)
            return self._registry.register(
                source, name, self._engine.base, assume_base=assume_base, replaces=replaces
            )
        except NameRefused as error:
            raise Refused(_problem(400, str(error), words.name)) from error
        except AdapterExists as error:
            text = f"{error} To replace it, say {words.replaces}: true."
            raise Refused(_problem(400, text, words.name, "adapter_exists", _FINAL)) from error
        except AdapterInvalid as error:
            text = "The adapter was refused, nothing has changed: " + "; ".join(error.problems)
            problem = _problem(400, f"{text}.", words.source, "adapter_incompatible", _FINAL)
            raise Refused(problem) from error
        except AdapterError as error:
            raise Refused(_unwritable(error)) from error

    def _remove(self, name: str, param: str) -> None:
        try:
            self._registry.remove(name)
        except AdapterNotFound as error:
            raise Refused(_problem(404, str(error), param, "adapter_not_found")) from error
        except AdapterError as error:
            raise Refused(_unwritable(error)) from error

    def _source(self, path: str, param: str) -> Path:
        """The real directory that ``path`` names, with an adapter in it.

        Outside of the allowed directories nobody learns what is there and what is not.
        """
        source = real_path(path)
        if source is None or not any(_is_below(source, root) for root in self._roots):
            raise Refused(
                _problem(
                    403,
                    f"{param}: not the absolute path of a directory below one that adapters may "
                    "be loaded from: the server's runs, and what `lccc-admin serve "
                    "--adapter-root DIR` allows. Links are followed before this is decided.",
                    param,
                    "path_not_allowed",
                )
            )
        if not os.path.lexists(source / CONFIG_FILE):
            text = f"{param}: there is no adapter: {source / CONFIG_FILE} does not exist."
            raise Refused(_problem(404, text, param, "adapter_not_found"))
        return source


def real_path(path: str) -> Path | None:
    """``path`` without links; ``None`` if it is not absolute, or no path at all."""
    if not path.startswith(os.sep):
        return None
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):  # a NUL, or characters that the file system has no bytes for
        return None


def _is_below(source: Path, root: Path) -> bool:
    allowed = real_path(os.path.abspath(root))  # noqa: PTH100 - one call for text and paths
    return allowed is not None and source.is_relative_to(allowed)


def _problem(
    status: int,
    message: str,
    param: str,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Problem:
    return Problem(status=status, message=message, param=param, code=code, headers=headers or {})


def _unwritable(error: AdapterError) -> Problem:
    logger.error("%s", error)
    return Problem(status=503, message=str(error), type="server_error", code="registry_unavailable")
