"""Grammars of replies, by llguidance: which tokens keep a reply valid.

llguidance rather than xgrammar: it needs no torch, and computes a mask in a few milliseconds
without preparing a schema for the vocabulary. It does not bound its own work on hostile schemas,
so each is first tried in a process that can be killed (:mod:`server.engine.schema_check`).
"""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from server.engine.dialect import MARKS
from server.engine.errors import GrammarInvalid
from server.engine.forms import MOST_BYTES, lark_of_form, noun_of
from server.engine.grammar import Grammar
from server.engine.guided_tokens import guided_tokens
from server.engine.lark import lark_of, schemas_of, together
from server.engine.schema_check import CPU_S, REFUSED, Job, Problem, tried_last
from server.engine.schema_numbers import numbers_problem
from server.engine.types import Shape

if TYPE_CHECKING:
    import llguidance
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

MOST_BYTES_TOGETHER = 256 * 1024
MOST_DEPTH = 64
MOST_CACHED = 64
CHECK_TIMEOUT_S = 20.0  # by the clock, where the machine is too busy for its share of a processor

_CHECK = Path(__file__).with_name("schema_check.py")
_LONGEST_REASON = 300
_EXCERPT = re.compile(r" \d+ \| ")


class Guidance:
    """Compiles shapes for one tokenizer, and remembers the last :data:`MOST_CACHED`.

    ``vocabulary``: how many logits the base has; tokens beyond the tokenizer's are never allowed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        added = tokenizer.added_tokens_encoder
        self._marks = {mark: added[mark] for mark in MARKS if mark in added}
        self._prepared: llguidance.LLTokenizer | None = None
        # By digests of grammars; what is refused with its problem.
        self._known: OrderedDict[bytes, _Compiled | Problem] = OrderedDict()

    def of_shape(self, shape: Shape) -> Callable[[], Grammar]:
        """Return what makes the grammar of one reply. Takes a while; not for two threads at once.

        Raises:
            GrammarInvalid: a schema or form is too large or too slow, or llguidance cannot use it.
            RuntimeError: it could not be tried out.
        """
        _refuse_large(shape)
        schemas = schemas_of(shape)
        grammar = lark_of(shape, schemas, self._marks)
        form = None if shape.form is None else lark_of_form(shape.form)
        if form is not None:
            grammar = together(grammar, form)
        key = hashlib.sha256(grammar.encode()).digest()
        found = self._known.get(key)
        if found is None:
            # The program has no tokens but bytes.
            whole = lark_of(shape, schemas) if shape.functions else form
            found = problem_of(Job(schemas, whole)) or self._compile(grammar)
        if not isinstance(found, Problem) or found.is_lasting:
            self._known[key] = found
            self._known.move_to_end(key)
        if len(self._known) > MOST_CACHED:
            self._known.popitem(last=False)
        if isinstance(found, Problem):
            raise _refusal(found, shape)
        return found.begin

    def _compile(self, grammar: str) -> _Compiled | Problem:
        """The grammar for this tokenizer, or why it cannot be used with it."""
        import llguidance

        if self._prepared is None:
            self._prepared = guided_tokens(self._tokenizer, self._vocabulary)
        matcher = llguidance.LLMatcher(self._prepared, grammar, log_level=0)
        try:
            return _Compiled(matcher, self._vocabulary)
        except RuntimeError as error:
            return Problem(f"{error}.")


def _refuse_large(shape: Shape) -> None:
    """Raise :class:`GrammarInvalid` for schemas that need not be tried."""
    together = 0
    if shape.schema is not None:
        together += _size(shape.schema, None)
    for index, function in enumerate(shape.functions):
        together += _size(function.parameters, index)
        if together > MOST_BYTES_TOGETHER:
            what = f"with those before it there are more than {MOST_BYTES_TOGETHER} bytes."
            raise GrammarInvalid(what, index)


def _size(schema: Mapping[str, Any], function: int | None) -> int:
    if _is_deeper(schema, MOST_DEPTH):
        raise GrammarInvalid(f"it is nested more than {MOST_DEPTH} levels deep.", function)
    size = len(msgspec.json.encode(schema))
    if size > MOST_BYTES:
        raise GrammarInvalid(f"it has {size} bytes; at most {MOST_BYTES} are accepted.", function)
    if what := numbers_problem(schema):
        raise GrammarInvalid(what[:_LONGEST_REASON], function)
    return size


def _refusal(problem: Problem, shape: Shape) -> GrammarInvalid:
    """The problem as one of the answer's schema or form, or of a function's."""
    if shape.form is not None:
        # What follows is an excerpt of the grammar, which has lost its lines by now.
        return GrammarInvalid(_EXCERPT.split(problem.what)[0], what=noun_of(shape.form))
    before = 0 if shape.schema is None else 1
    function = None if problem.schema is None else problem.schema - before
    return GrammarInvalid(problem.what, None if function == -1 else function)


def problem_of(job: Job) -> Problem | None:
    """Try ``job`` out where it can do no harm; why it is no good, or nothing.

    Raises:
        RuntimeError: the program that tries it out has failed.
    """
    # -P: beside that program lie modules with names of the standard library's.
    command = [sys.executable, "-P", str(_CHECK)]
    work = msgspec.json.encode(job)
    try:
        done = subprocess.run(
            command, input=work, capture_output=True, timeout=CHECK_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as expired:
        return _too_slow(CHECK_TIMEOUT_S, expired.stdout or b"", job)
    if done.returncode == REFUSED:
        problem = msgspec.json.decode(done.stdout.splitlines()[-1], type=Problem)
        return replace(problem, what=" ".join(problem.what.split())[:_LONGEST_REASON])
    if done.returncode == -signal.SIGXCPU:
        return _too_slow(CPU_S, done.stdout, job)
    if done.returncode < 0:  # out of memory, or of stack
        what = "it takes too much memory to prepare."
        return Problem(what, tried_last(done.stdout, job))
    if done.returncode:
        raise RuntimeError(f"{_CHECK.name} failed: {done.stderr.decode(errors='replace')}")
    return None


def _too_slow(limit_s: float, told: bytes, job: Job) -> Problem:
    """What took more than ``limit_s``, when the program had ``told`` so much; it may be quicker."""
    what = f"it takes longer than {limit_s:.0f} s to prepare."
    return Problem(what, tried_last(told, job), is_lasting=False)


class _Compiled:
    """A grammar for one tokenizer, with the mask that every reply begins with.

    Raises:
        RuntimeError: llguidance cannot compute it.
    """

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._first = _Guided(matcher.deep_copy(), vocabulary).mask().copy()

    def begin(self) -> Grammar:
        return _Guided(self._matcher.deep_copy(), self._vocabulary, self._first)


class _Guided:
    """The grammar of one reply, a :class:`server.engine.grammar.Grammar`.

    ``first``: the mask to begin with, if it is known; computing it may take long.
    """

    def __init__(
        self,
        matcher: llguidance.LLMatcher,
        vocabulary: int,
        first: NDArray[np.int32] | None = None,
    ) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._mask = first
        self._bits: NDArray[np.int32] | None = None

    def mask(self) -> NDArray[np.int32]:
        """The tokens that may come next.

        Raises:
            RuntimeError: llguidance gave up, which ends this reply.
        """
        if self._mask is None:
            self._mask = self._computed()
        return self._mask

    def _computed(self) -> NDArray[np.int32]:
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        if self._bits is None:
            self._bits = allocate_token_bitmask(1, self._vocabulary)
        fill_next_token_bitmask(self._matcher, self._bits)
        self._refuse_errors()
        return self._bits[0]

    def accept(self, token: int) -> None:
        """Go on by a token.

        Raises:
            RuntimeError: it was not allowed.
        """
        self._mask = None
        self._matcher.consume_token(token)
        self._refuse_errors()

    @property
    def is_finished(self) -> bool:
        return self._matcher.is_stopped()

    def _refuse_errors(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().strip().partition("\n")[0]
            raise RuntimeError(f"the grammar failed: {reason[:_LONGEST_REASON]}")


def _is_deeper(value: object, levels: int) -> bool:
    """Whether ``value`` has more than so many levels of objects and lists. Not recursive."""
    front: list[object] = [value]
    for _ in range(levels):
        inner: list[object] = []
        for each in front:
            if isinstance(each, Mapping):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        if not inner:
            return False
        front = inner
    return any(isinstance(each, Mapping | list) for each in front)
