"""What guides one reply: its penalties' history, its biases, its grammar, and what may end it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from collections.abc import Sequence as Rows
from typing import TYPE_CHECKING

from server.engine.draw import NOTHING, Draw, bias_of, is_greedy, uniform
from server.engine.grammar import Grammar
from server.engine.history import History
from server.engine.types import SamplingParams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Guide:
    """Kept in step with one sequence's tokens by :meth:`accept`. Plain Python.

    ``ends``: the tokens that end the reply. Until it has ``min_tokens`` tokens those are withheld,
    and the base's ``end_tokens`` too where ``ignore_eos`` makes them ordinary.
    """

    def __init__(
        self,
        sampling: SamplingParams,
        *,
        seed: int,
        prompt: Rows[int],
        end_tokens: Iterable[int],
        grammar: Grammar | None,
    ) -> None:
        self._sampling = sampling
        self._seed = seed
        self._min_tokens = sampling.min_tokens
        self._grammar = grammar
        self._prompt_tokens = len(prompt)
        self._reply_tokens = 0
        stops = frozenset(sampling.stop_token_ids)
        self.ends = stops if sampling.ignore_eos else stops.union(end_tokens)
        self._withheld = array("i", sorted(stops.union(end_tokens)))
        self._bias = bias_of(sampling)
        self._is_drawn = not is_greedy(sampling)
        self._history = _history_for(sampling, prompt)
        self._is_plain = (
            grammar is None
            and self._history is None
            and self._bias is None
            and sampling.logprobs is None
        )
        self._mask: NDArray[np.int32] | None = None if grammar is None else grammar.mask()

    @property
    def is_complete(self) -> bool:
        """True where the grammar wants no more tokens."""
        return self._grammar is not None and self._grammar.is_finished

    def accept(self, token: int) -> None:
        """Go on by a token of the reply."""
        self._reply_tokens += 1
        if self._history is not None:
            self._history.add(token)
        if self._grammar is not None:
            self._grammar.accept(token)
            self._mask = None if self._grammar.is_finished else self._grammar.mask()

    def going_on(self, unread: int) -> float | None:
        """The draw behind ``unread`` tokens as its :meth:`uniform`, where all else is as before it.

        ``None`` where more of it may differ: histories, biases, grammars, logprobs.
        """
        if not self._is_plain or self._reply_tokens + unread == self._min_tokens:
            return None
        return self.uniform(unread) if self._is_drawn else 0.0

    def uniform(self, unread: int) -> float:
        """The number that decides what comes behind ``unread`` tokens; 0 where nothing is drawn."""
        if not self._is_drawn:
            return 0.0
        return uniform(self._seed, self._prompt_tokens + self._reply_tokens + unread)

    def draw(self, ahead: Rows[int] = (), *, unread: int = 0) -> Draw:
        """What the next token depends on, or the one after the tokens ``ahead``.

        Of ``unread`` further ones before it nothing is known here: the history lacks them. With a
        grammar there can be neither.
        """
        assert not ((ahead or unread) and self._grammar), "a grammar cannot look ahead"
        length = self._reply_tokens + unread + len(ahead)
        history = self._history
        return Draw(
            sampling=self._sampling,
            uniform=self.uniform(unread + len(ahead)),
            history=history.after(ahead) if history and ahead else history,
            bias=self._bias,
            withheld=self._withheld if length < self._min_tokens else NOTHING,
            mask=self._mask,
        )


def grammar_for(sampling: SamplingParams) -> Grammar | None:
    """The grammar of a new reply; what it cannot do shows here, before anything is admitted."""
    if sampling.grammar is None:
        return None
    grammar = sampling.grammar()
    grammar.mask()
    return grammar


def _history_for(sampling: SamplingParams, prompt: Rows[int]) -> History | None:
    """The repetition penalty goes by prompt and reply, the other two by the reply alone."""
    if sampling.repetition_penalty != 1.0:
        return History(prompt)
    is_counted = sampling.presence_penalty != 0.0 or sampling.frequency_penalty != 0.0
    return History() if is_counted else None
