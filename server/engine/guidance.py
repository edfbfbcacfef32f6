"""Grammars from JSON schemas, by llguidance: which tokens keep a reply valid.

llguidance rather than xgrammar: it needs no torch, computes a mask in well under a millisecond
without preparing the schema for the vocabulary, and bounds its own work on hostile schemas.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from server.engine.errors import GrammarInvalid
from server.engine.grammar import Grammar

if TYPE_CHECKING:
    import llguidance
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

MOST_BYTES = 64 * 1024
MOST_DEPTH = 64
MOST_CACHED = 64


class Guidance:
    """Compiles schemas for one tokenizer, and remembers the last :data:`MOST_CACHED`.

    ``vocabulary``: how many logits the base has; tokens beyond the tokenizer's are never allowed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._prepared: llguidance.LLTokenizer | None = None
        self._compiled: OrderedDict[bytes, llguidance.LLMatcher] = OrderedDict()

    def from_schema(self, schema: Mapping[str, Any]) -> Callable[[], Grammar]:
        """Return what makes the grammar of one reply. Takes a while; not for two threads at once.

        Raises:
            GrammarInvalid: it is too large, or llguidance cannot use it, with the reason.
        """
        key = msgspec.json.encode(schema, order="deterministic")
        if len(key) > MOST_BYTES:
            raise GrammarInvalid(f"it has {len(key)} bytes; at most {MOST_BYTES} are accepted.")
        if _is_deeper(schema, MOST_DEPTH):
            raise GrammarInvalid(f"it is nested more than {MOST_DEPTH} levels deep.")
        matcher = self._compiled.get(key) or self._compile(key)
        self._compiled[key] = matcher
        self._compiled.move_to_end(key)
        if len(self._compiled) > MOST_CACHED:
            self._compiled.popitem(last=False)
        return lambda: _Guided(matcher.deep_copy(), self._vocabulary)

    def _compile(self, schema: bytes) -> llguidance.LLMatcher:
        import llguidance
        import llguidance.hf

        if self._prepared is None:
            self._prepared = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=self._vocabulary)
        try:
            # No free white space: a small model may otherwise go on with it for ever.
            grammar = llguidance.LLMatcher.grammar_from_json_schema(
                schema.decode(), overrides={"whitespace_flexible": False}
            )
            matcher = llguidance.LLMatcher(self._prepared, grammar, log_level=0)
        except ValueError as error:
            raise GrammarInvalid(_first_line(str(error))) from error
        if matcher.is_error():
            raise GrammarInvalid(_first_line(matcher.get_error()))
        try:
            _Guided(matcher.deep_copy(), self._vocabulary).mask()
        except RuntimeError as error:
            raise GrammarInvalid("no text satisfies it.") from error
        return matcher


class _Guided:
    """The grammar of one reply, a :class:`server.engine.grammar.Grammar`."""

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary: int) -> None:
        from llguidance.numpy import allocate_token_bitmask

        self._matcher = matcher
        self._bits = allocate_token_bitmask(1, vocabulary)

    def mask(self) -> NDArray[np.int32] | None:
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._bits)
        self._check()
        return self._bits[0]

    def accept(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._check()

    @property
    def is_finished(self) -> bool:
        return self._matcher.is_stopped()

    def _check(self) -> None:
        """Raises RuntimeError: llguidance gave up, which ends this reply."""
        if self._matcher.is_error():
            raise RuntimeError(f"the grammar failed: {_first_line(self._matcher.get_error())}")


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


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
