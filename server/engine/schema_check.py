"""A program that tries a JSON schema out: text of it on stdin, killed when it takes too long.

A few hundred bytes can keep the compiler of grammars busy for ever and fill the memory, so that it
must not meet them first in the server. Exit code 3 and a line on stdout say why one is no good.
"""

from __future__ import annotations

import resource
import sys
from contextlib import suppress

REFUSED = 3  # what no crash of Python's own ends with
MEMORY = 1 << 30
# An object with very many properties fails only once it is open.
FIRST_TOKENS = 2


def problem_of(schema: str) -> str:
    """Why no grammar can be made of ``schema``; empty where one can."""
    import llguidance

    try:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            schema, overrides={"whitespace_flexible": False}
        )
    except ValueError as error:
        return str(error)
    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar, log_level=0)
    for _ in range(FIRST_TOKENS):
        if matcher.is_error() or matcher.is_stopped():
            break
        mask = matcher.compute_bitmask()
        allowed = (
            8 * at + bit for at in range(len(mask)) for bit in range(8) if mask[at] >> bit & 1
        )
        if (token := next(allowed, None)) is None:
            break
        matcher.consume_token(token)
    problem = matcher.get_error() if matcher.is_error() else ""
    return "no text satisfies it." if problem.startswith("NoExtensionBias") else problem


def main() -> int:
    """Check what stdin has."""
    with suppress(ValueError, OSError):  # not every system can bound it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        problem = problem_of(sys.stdin.read())
    except MemoryError:
        problem = "it takes too much memory to prepare."
    sys.stdout.write(" ".join(problem.split()))
    return REFUSED if problem else 0


if __name__ == "__main__":
    sys.exit(main())
