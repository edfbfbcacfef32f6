"""A program that tries JSON schemas out, and the grammar made of them; killed if that takes long.

A few hundred bytes can keep the compiler of grammars busy for ever and fill the memory, so that it
must not meet them first in the server. On stdin is a :class:`Job` in JSON; a line of stdout says
which part is tried next, so that it is known what took so long when the program is killed. Exit
code 3 and a :class:`Problem` in the last line say why a schema is no good.
"""

from __future__ import annotations

import resource
import sys
from contextlib import suppress

import msgspec

REFUSED = 3  # what no crash of Python's own ends with
MEMORY = 1 << 30
# Of a processor's time, which a busy machine does not use up; then the kernel ends it by SIGXCPU.
CPU_S = 3
# An object with very many properties fails only once it is open.
FIRST_TOKENS = 2


class Job(msgspec.Struct, frozen=True):
    """``schemas`` as text, and a ``grammar`` in Lark of them all, if there is more to it."""

    schemas: list[str]
    grammar: str | None = None


class Problem(msgspec.Struct, frozen=True):
    """Why not. ``schema`` counts from 0; none: it is all of them together.

    Unless it ``is_lasting``, it may go better another time.
    """

    what: str
    schema: int | None = None
    is_lasting: bool = True


def problem_of(job: Job) -> Problem | None:
    """The first, or nothing."""
    for index, schema in enumerate(job.schemas):
        _tell(index)
        if what := _problem_of(schema, is_schema=True):
            return Problem(what, index)
    _tell(len(job.schemas))
    if job.grammar is not None and (what := _problem_of(job.grammar, is_schema=False)):
        return Problem(what)
    return None


def tried_last(told: bytes, job: Job) -> int | None:
    """Which schema of ``job`` was tried when the program had ``told`` so much."""
    index = told.count(b"\n") - 1
    return index if index in range(len(job.schemas)) else None


def _tell(index: int) -> None:
    sys.stdout.write(f"{index}\n")
    sys.stdout.flush()


def _problem_of(text: str, *, is_schema: bool) -> str:
    import llguidance

    try:
        return _tried(llguidance.LLMatcher.grammar_from_json_schema(text) if is_schema else text)
    except ValueError as error:
        return str(error)
    except MemoryError:
        return "it takes too much memory to prepare."


def _tried(grammar: str) -> str:
    import llguidance

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
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    problem = problem_of(job)
    if problem is None:
        return 0
    sys.stdout.buffer.write(msgspec.json.encode(problem))
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
