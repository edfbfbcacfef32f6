"""Grammars from JSON schemas, by llguidance: which tokens keep a reply valid.

llguidance rather than xgrammar: it needs no torch, and computes a mask in a few milliseconds
without preparing the schema for the vocabulary. It does not bound its own work on hostile schemas,
so each is first tried in a process that can be killed (:mod:`server.engine.schema_check`).
"""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from server.engine.errors import GrammarInvalid
from server.engine.grammar import Grammar
from server.engine.schema_check import REFUSED

if TYPE_CHECKING:
    import llguidance
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

MOST_BYTES = 64 * 1024
MOST_DEPTH = 64
MOST_CACHED = 64
CHECK_TIMEOUT_S = 3.0

_CHECK = Path(__file__).with_name("schema_check.py")
_LONGEST_REASON = 300


class Guidance:
    """Compiles schemas for one tokenizer, and remembers the last :data:`MOST_CACHED`.

    ``vocabulary``: how many logits the base has; tokens beyond the tokenizer's are never allowed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._prepared: llguidance.LLTokenizer | None = None
        self._known: OrderedDict[bytes, _Compiled | str] = OrderedDict()  # or why it is refused

    def from_schema(self, schema: Mapping[str, Any]) -> Callable[[], Grammar]:
        """Return what makes the grammar of one reply. Takes a while; not for two threads at once.

        Raises:
            GrammarInvalid: it is too large or too slow, or llguidance cannot use it.
            RuntimeError: it could not be tried out.
        """
        key = msgspec.json.encode(schema)  # in its own order, which is that of the reply
        if len(key) > MOST_BYTES:
            raise GrammarInvalid(f"it has {len(key)} bytes; at most {MOST_BYTES} are accepted.")
        if _is_deeper(schema, MOST_DEPTH):
            raise GrammarInvalid(f"it is nested more than {MOST_DEPTH} levels deep.")
        found = self._known.get(key) or problem_of(key) or self._compile(key)
        self._known[key] = found
        self._known.move_to_end(key)
        if len(self._known) > MOST_CACHED:
            self._known.popitem(last=False)
        if isinstance(found, str):
            raise GrammarInvalid(found)
        return found.begin

    def _compile(self, schema: bytes) -> _Compiled | str:
        """The schema for this tokenizer, or why it cannot be used with it."""
        import llguidance
        import llguidance.hf

        if self._prepared is None:
            self._prepared = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=self._vocabulary)
        # No free white space: a small model may otherwise go on with it for ever.
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            schema.decode(), overrides={"whitespace_flexible": False}
        )
        matcher = llguidance.LLMatcher(self._prepared, grammar, log_level=0)
        try:
            return _Compiled(matcher, self._vocabulary)
        except RuntimeError as error:
            return f"{error}."


def problem_of(schema: bytes) -> str:
    """Try ``schema`` out where it can do no harm; why it is no good, or nothing.

    Raises:
        GrammarInvalid: it takes too long, which on another day it may not.
        RuntimeError: the program that tries it out has failed.
    """
    # -P: beside that program lie modules with names of the standard library's.
    command = [sys.executable, "-P", str(_CHECK)]
    try:
        done = subprocess.run(
            command, input=schema, capture_output=True, timeout=CHECK_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        what = f"it takes longer than {CHECK_TIMEOUT_S:.0f} s to prepare."
        raise GrammarInvalid(what) from None
    if done.returncode == REFUSED:
        return done.stdout.decode(errors="replace")[:_LONGEST_REASON]
    if done.returncode < 0:  # out of memory, or of stack
        return "it takes too much memory to prepare."
    if done.returncode:
        raise RuntimeError(f"{_CHECK.name} failed: {done.stderr.decode(errors='replace')}")
    return ""


class _Compiled:
    """A schema for one tokenizer, with the mask that every reply begins with.

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
