"""What one request did and when, and what a round of requests is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Counted = Literal["usage", "tokenizer", "chunks"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """One request. Times are seconds of one monotonic clock.

    ``text_s``: when each chunk with text arrived. ``counted`` says where ``output_tokens`` is
    from: the server's usage, else the tokenizer (as vLLM does it), else one for each chunk.
    ``asked_tokens``: how long the reply was to be, where that differs from request to request.
    ``failure`` is why the request counts for nothing but as failed.
    """

    model: str
    sent_s: float
    text_s: tuple[float, ...] = ()
    text: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    asked_tokens: int = 0
    counted: Counted = "usage"
    failure: str | None = None

    @property
    def ttft_s(self) -> float:
        """Time to first token: from sending to the first text."""
        return self.text_s[0] - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        """Inter-token latencies: the time between each chunk with text and the next."""
        return [later - earlier for earlier, later in pairwise(self.text_s)]

    @property
    def latency_s(self) -> float:
        """End to end: from sending to the last text."""
        return self.text_s[-1] - self.sent_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; ``None`` where there is no second."""
        if self.output_tokens < 2:  # noqa: PLR2004 - the first token has no time of its own
            return None
        return (self.latency_s - self.ttft_s) / (self.output_tokens - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Requests of one load, and when it began and ended.

    ``parts``: seconds that the engine's steps took in it, by part, where it runs in this process.
    """

    timelines: tuple[Timeline, ...]
    begun_s: float
    ended_s: float
    parts: Mapping[str, float] = field(default_factory=dict)
