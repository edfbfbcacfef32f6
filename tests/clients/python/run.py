"""Ask a server through other projects' Python clients, and tell what each of them gave.

Run by the tests in an environment of its own, because those clients need other versions than we
do; one process for all, because importing them takes longer than the rest.
stdin is JSON, ``{"stage", "key", "pocket", "examples"}``: two addresses, the key of the first, and
code of the documents. stdout is JSON: for each client and check ``{"gave": value}`` or
``{"raised": traceback}``, for each example likewise what it printed.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import langchain_checks
import litellm_checks
from asked import Servers


def outcome(check: Callable[[], Any]) -> dict[str, Any]:
    """What a check returned or how it failed."""
    try:
        return {"gave": check()}
    except Exception:  # noqa: BLE001  # every failure is an answer
        return {"raised": traceback.format_exc()}


def printed(example: str) -> str:
    """What an example prints, run as a script is."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = compile(example, "an example", "exec", dont_inherit=True)
        exec(code, {"__name__": "__main__"})
    return said.getvalue()


def main() -> None:
    """Everything once."""
    given = json.load(sys.stdin)
    servers = Servers(stage=given["stage"], key=given["key"], pocket=given["pocket"])
    with contextlib.redirect_stdout(sys.stderr):  # libraries may print what they like
        answers: dict[str, Any] = {
            client.__name__.removesuffix("_checks"): {
                name: outcome(lambda check=check: check(servers))
                for name, check in client.CHECKS.items()
            }
            for client in (langchain_checks, litellm_checks)
        }
        answers["examples"] = [
            outcome(lambda example=example: printed(example)) for example in given["examples"]
        ]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
