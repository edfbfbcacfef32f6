"""The command line as a process, for what takes torch or a tokenizer and a moment.

The server of a model neither loads a second one nor knows how trainings are planned; the command
line does, and whatever it refuses is refused here in the same words.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from adapters.home import Home
from server.errors import Problem, Refused

logger = logging.getLogger(__name__)

TIMEOUT_S = 120.0
_SAID = re.compile(r"^Error: (?P<text>.*)\Z", re.MULTILINE | re.DOTALL)


async def command(home: Home, *arguments: str, timeout_s: float = TIMEOUT_S) -> Any:
    """The JSON that ``lccc-admin ARGUMENT...`` prints. Cancelled, it takes the process along.

    Raises:
        Refused: 400 with the command's own message; 503 where it took too long.
    """
    check_arguments(arguments)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "admin", "--home", str(home.root), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"COLUMNS": "200"},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            printed, said = await process.communicate()
    except TimeoutError as error:
        text = f"`lccc-admin {arguments[0]}` took longer than {timeout_s:g} s; run it by hand."
        raise Refused(Problem(status=503, message=text, type="server_error")) from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()  # to the end of its pipes, which its end alone is not
    if process.returncode:
        text = said.decode("utf-8", "replace")
        if message := error_in(text):
            raise Refused(Problem(status=400, message=message, code="command_refused"))
        logger.error("lccc-admin %s failed:\n%s", arguments[0], text)
        raise RuntimeError(f"lccc-admin {arguments[0]} failed")
    return msgspec.json.decode(printed)


def check_arguments(arguments: Sequence[str]) -> None:
    """No process can be given a NUL, or half a surrogate pair; both may come from clients.

    Raises:
        Refused: 400.
    """
    for argument in arguments:
        if "\0" in argument or not _is_text(argument):
            raise Refused(Problem(status=400, message="A value has characters that are no text."))


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def error_in(said: str) -> str | None:
    """The message of an expected failure, in what the command line wrote to stderr."""
    found = _SAID.search(said)
    return found["text"].strip() if found else None
