"""One generation's state, and one step's share of it. Plain Python: no tensors, no threads."""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from server.engine.draw import Draw, Scores
from server.engine.grammar import Grammar
from server.engine.guess import Guesser
from server.engine.guide import Guide
from server.engine.text import Reply
from server.engine.types import (
    Delta,
    Finished,
    FinishReason,
    SamplingParams,
    Scored,
    TokenLogprobs,
)

# How many later arrivals of a priority one higher may go first.
HEAD_START = 32
BY_RANK = attrgetter("rank")
NO_POSITIONS = range(0)


@dataclass(eq=False, kw_only=True, slots=True)
class Sequence:
    """A prompt and the reply so far.

    ``key`` is unique in an engine. ``adapter`` is whatever the runner needs to apply it, ``None``
    for the base. ``tokens`` starts as the prompt; ``computed`` of them have their keys and values
    in the cache, in ``blocks``, the first ``len(links)`` of which can be found by others. Whoever
    changes ``blocks`` raises ``revision``.
    ``unread`` more tokens are drawn, or will be by steps that are launched, but nobody has read
    them yet: what is computed next may be such a token. ``seed`` is never ``None`` here.

    ``rank`` orders sequences: the lower, the more deserving. ``key`` counts arrivals; one more of
    ``priority`` is worth a head start of some. It never changes, so nothing starves.

    ``cached_tokens`` of the prompt were found in the cache when it was first computed;
    ``preemptions`` counts how often all blocks were taken away since.

    ``scores`` are the logprobs of the prompt's tokens from the second on, as far as they are read,
    where they are asked for.
    """

    key: int
    tokens: list[int]
    sampling: SamplingParams
    seed: int
    max_tokens: int
    end_tokens: frozenset[int]
    reply: Reply
    adapter: Any = None
    grammar: Grammar | None = None
    guesser: Guesser | None = None
    guide: Guide = field(init=False)
    prompt_tokens: int = field(init=False)
    rank: tuple[int, int] = field(init=False)
    computed: int = 0
    unread: int = 0
    blocks: array[int] = field(default_factory=lambda: array("i"))
    revision: int = 0
    links: list[int] = field(default_factory=list)
    cached_tokens: int = 0
    preemptions: int = 0
    priority: int = 0
    scores: list[TokenLogprobs] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.tokens)
        self.rank = self.key - HEAD_START * self.priority, self.key
        self.guide = Guide(
            self.sampling,
            seed=self.seed,
            prompt=self.tokens,
            end_tokens=self.end_tokens,
            grammar=self.grammar,
        )

    @property
    def digest(self) -> str | None:
        """Which adapter, by content; ``None`` for the base."""
        return None if self.adapter is None else self.adapter.digest

    @property
    def length(self) -> int:
        """Its tokens, the unread ones too."""
        return len(self.tokens) + self.unread

    @property
    def known(self) -> int:
        """How many computed tokens are known: what others may find."""
        return min(self.computed, len(self.tokens))

    @property
    def pending(self) -> int:
        """Tokens that are there but not yet computed: the rest of the prompt, or the last token."""
        return len(self.tokens) + self.unread - self.computed

    @property
    def has_to_be_read(self) -> bool:
        """Whether what comes next depends on an unread token: the last one, or a grammar's."""
        return self.unread > 0 and (
            self.grammar is not None or self.completion_tokens + self.unread >= self.max_tokens
        )

    @property
    def unscored(self) -> range:
        """Positions of the prompt whose logits are wanted for the token that follows there."""
        if self.sampling.prompt_logprobs is None:
            return NO_POSITIONS
        return range(len(self.scores), self.prompt_tokens - 1)

    @property
    def most_tokens(self) -> int:
        """What prompt and reply may come to."""
        return self.prompt_tokens + self.max_tokens

    def score(self, found: Scores) -> None:
        """Keep logprobs of the prompt. What is computed anew after a pre-emption comes again."""
        self.scores += found.logprobs[len(self.scores) + 1 - found.begin :]

    def scored_prompt(self) -> Scored:
        """The prompt's logprobs, all of them once it is computed."""
        return Scored(self.tokens[0], tuple(self.scores))

    def guess(self, at_most: int) -> tuple[int, ...]:
        """Up to ``at_most`` tokens that may follow; never as many as would end the reply.

        None with a grammar, whose masks depend on the tokens before.
        """
        if self.guesser is None or self.grammar is not None or not self.max_tokens:
            return ()
        left = self.max_tokens - self.completion_tokens - 1
        return self.guesser.guess(self.tokens, min(at_most, left))

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    def draw(self, ahead: Rows[int] = ()) -> Draw:
        """What the choice of the next token depends on, or of the one after the tokens ``ahead``.

        Those are guessed, or unread by all but the caller.
        """
        return self.guide.draw(ahead)

    def accept(
        self, token: int, logprobs: TokenLogprobs | None = None
    ) -> tuple[Delta, FinishReason | None]:
        """Append a sampled token; returns its text and, where it was the last, why."""
        tokens, guide, reply = self.tokens, self.guide, self.reply
        tokens.append(token)
        if token in guide.ends:
            return Delta(reply.finish(), 1), "stop"
        guide.accept(token)
        text = reply.feed(token)
        reason: FinishReason | None = None
        if reply.is_stopped:
            reason = "stop"
        elif guide.is_complete:
            text, reason = text + reply.finish(), "stop"
        elif len(tokens) - self.prompt_tokens >= self.max_tokens:
            text, reason = text + reply.finish(), "length"
        return Delta(text, 1) if logprobs is None else Delta(text, 1, (logprobs,)), reason

    def finished(self, reason: FinishReason) -> Finished:
        return Finished(reason, self.prompt_tokens, self.completion_tokens, self.cached_tokens)


@dataclass(eq=False, slots=True)  # frozen, it would take thrice as long to make: one every token
class Chunk:
    """``count`` tokens of ``sequence`` from position ``start``, to be computed in one step.

    The last of them may be a ``guess`` at what follows the known ones. Where the chunk reaches the
    end of these, it ``is_sampled``: the successors of the last known token and of all guessed ones
    are drawn. A chunk behind an unread token is that token alone. ``scored`` are its positions
    whose successors in the prompt are given, and their logprobs wanted.
    """

    sequence: Sequence
    start: int
    count: int
    guess: tuple[int, ...] = ()
    scored: range = NO_POSITIONS
    is_sampled: bool = field(init=False)

    def __post_init__(self) -> None:
        # What the sequence has grows as its tokens are read; this is about the time of the plan.
        known_end = self.start + self.count - len(self.guess)
        self.is_sampled = known_end == len(self.sequence.tokens) + self.sequence.unread

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def known_end(self) -> int:
        """Where its tokens end and the guesses begin."""
        return self.end - len(self.guess)

    @property
    def tokens(self) -> list[int]:
        """Its tokens; none where it is an unread one."""
        return [*self.sequence.tokens[self.start : self.known_end], *self.guess]

    @property
    def sampled(self) -> range:
        """Positions whose logits are wanted; none where the chunk ends before the known tokens."""
        return range(self.known_end - 1 if self.is_sampled else self.end, self.end)

    @property
    def wanted(self) -> Rows[int]:
        """Positions whose logits are wanted, to score and to sample, in order."""
        return (*self.scored, *self.sampled) if self.scored else self.sampled
