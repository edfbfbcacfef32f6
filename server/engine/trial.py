"""A new adapter's first forward: by itself, before it shares a step with others.

Factors may be numbers, every one of them, and their products none: what such an adapter answers is
found here, once, and no step that others wait for has it. Plain Python.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from adapters.errors import AdapterError
from server.engine.draw import Drawn, Scores
from server.engine.sequence import Chunk, Sequence
from server.engine.text import Detokenizer, Reply
from server.engine.types import SamplingParams

# How many tokens are computed. Every one goes through all factors.
TOKENS = 4
# The key of a sequence that no scheduler knows; those of others count from 0.
KEY = -1
# How near a distribution may be to none: rounding in fp32, not a trained model's doubt.
LEAST_KNOWN = 1e-4


class NoNumbers(AdapterError):
    """An adapter with which the base computes nothing that can be sampled."""

    def __init__(self) -> None:
        super().__init__(
            "tried alone before its first reply, it made the model compute values that are not "
            "finite, or that tell no token from another. Its factors are too large, as after a "
            "training that diverged: register an earlier checkpoint, or train it again with a "
            "lower learning rate or alpha."
        )


@dataclass(frozen=True, eq=False, slots=True)
class Trial:
    """Command: compute a few tokens with ``adapter`` and nobody else.

    ``is_usable`` is where the answer comes, whether it may be served; or why nobody knows.
    """

    adapter: Any
    is_usable: Future[bool] = field(default_factory=Future)


def chunk_of(adapter: Any, *, vocabulary: int, block: int) -> Chunk:
    """What is computed: tokens from all over a ``vocabulary``, kept in a ``block`` of their own."""
    sequence = Sequence(
        key=KEY,
        tokens=[vocabulary * number // TOKENS for number in range(TOKENS)],
        sampling=SamplingParams(temperature=0.0, max_tokens=1, logprobs=0),
        seed=0,
        max_tokens=1,
        end_tokens=frozenset(),
        reply=Reply(Detokenizer(())),
        adapter=adapter,
        blocks=array("i", [block]),
    )
    return Chunk(sequence, 0, TOKENS)


def is_usable(results: Iterable[Drawn | Scores], vocabulary: int) -> bool:
    """Whether what came of the chunk is a token, and one that is likelier than others.

    Where squares overflow and the values do not, norms make zeros of them: all tokens are the same
    then.
    """
    return all(
        isinstance(found, Drawn)
        and found.logprobs is not None
        and found.logprobs.logprob > LEAST_KNOWN - math.log(vocabulary)
        for found in results
    )
