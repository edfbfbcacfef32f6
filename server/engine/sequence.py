"""One generation's state, and one step's share of it. Plain Python: no tensors, no threads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from server.engine.text import Reply
from server.engine.types import Delta, Finished, FinishReason, SamplingParams


@dataclass(eq=False, kw_only=True, slots=True)
class Sequence:
    """A prompt and the reply so far.

    ``key`` is unique in an engine. ``adapter`` is whatever the runner needs to apply it, ``None``
    for the base. ``tokens`` starts as the prompt; ``computed`` of them have their keys and values
    in the cache row ``slot`` (``None`` while waiting). ``seed`` is never ``None`` here.
    """

    key: int
    tokens: list[int]
    sampling: SamplingParams
    seed: int
    max_tokens: int
    end_tokens: frozenset[int]
    reply: Reply
    adapter: Any = None
    prompt_tokens: int = field(init=False)
    computed: int = 0
    slot: int | None = None

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.tokens)

    @property
    def pending(self) -> int:
        """Tokens that are known but not yet computed: the rest of the prompt, or the last token."""
        return len(self.tokens) - self.computed

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    def accept(self, token: int) -> tuple[Delta, FinishReason | None]:
        """Append a sampled token; returns its text and, where it was the last, why."""
        self.tokens.append(token)
        if token in self.end_tokens:
            return Delta(self.reply.finish(), 1), "stop"
        text = self.reply.feed(token)
        if self.reply.is_stopped:
            return Delta(text, 1), "stop"
        if self.completion_tokens >= self.max_tokens:
            return Delta(text + self.reply.finish(), 1), "length"
        return Delta(text, 1), None

    def finished(self, reason: FinishReason) -> Finished:
        return Finished(reason, self.prompt_tokens, self.completion_tokens)


@dataclass(frozen=True, slots=True)
class Chunk:
    """``count`` tokens of ``sequence`` from position ``start``, to be computed in one step."""

    sequence: Sequence
    start: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def is_sampled(self) -> bool:
        """True where this chunk reaches the last known token, so that the next one is drawn."""
        return self.end == len(self.sequence.tokens)
