"""One row to sample: what the choice depends on beside the logits, and what comes out of it."""

from __future__ import annotations

import hashlib
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from server.engine.history import History
from server.engine.types import SamplingParams, TokenLogprobs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Below this a distribution is its maximum.
GREEDY_BELOW = 1e-5
# Above this it is flat; what is larger would only overflow.
HOTTEST = 1e30
# Added to a logit, it makes that the largest.
_BEYOND_ALL = 1e30

Failure = Literal["not finite", "none allowed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bias:
    """``values`` (fp32) are added to the logits of ``ids`` (int32, each once)."""

    ids: array[int]
    values: array[float]


NOTHING = array("i")


class Draw(NamedTuple):
    """``uniform`` in [0, 1) decides, where it is not the largest logit.

    ``withheld``: int32 ids that may not come.
    ``mask``: the grammar's, see :class:`server.engine.grammar.Grammar`; ``None`` allows all.
    ``history`` and ``bias`` are ``None`` where they would change nothing.
    """

    sampling: SamplingParams
    uniform: float
    history: History | None = None
    bias: Bias | None = None
    withheld: array[int] = NOTHING
    mask: NDArray[np.int32] | None = None

    @property
    def is_greedy(self) -> bool:
        return is_greedy(self.sampling)

    @property
    def temperature(self) -> float:
        return min(self.sampling.temperature, HOTTEST)


class Scores(NamedTuple):
    """Logprobs of the tokens of a prompt from position ``begin`` on."""

    begin: int
    logprobs: tuple[TokenLogprobs, ...]


class Drawn(msgspec.Struct, frozen=True, gc=False):  # quick to make: there is one every token
    """A token, with its logprobs if they were asked for; or ``None``, and why there is none."""

    token: int | None
    logprobs: TokenLogprobs | None = None
    failure: Failure | None = None


def is_greedy(sampling: SamplingParams) -> bool:
    """Whether the largest logit is the choice."""
    return sampling.temperature < GREEDY_BELOW


def bias_of(sampling: SamplingParams) -> Bias | None:
    """``logit_bias`` as arrays."""
    if not sampling.logit_bias:
        return None
    return Bias(
        ids=array("i", sampling.logit_bias.keys()), values=array("f", sampling.logit_bias.values())
    )


def certain(token: int, logprobs: int) -> Draw:
    """One that can only give ``token``, and reports so many ``logprobs`` of others in its place.

    So a token that is given has the same logprob as one that is drawn, to the last bit.
    """
    return Draw(
        sampling=SamplingParams(temperature=0.0, logprobs=logprobs),
        uniform=0.0,
        bias=Bias(ids=array("i", [token]), values=array("f", [_BEYOND_ALL])),
    )


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) with 53 random bits; equal arguments give equal numbers everywhere."""
    key = struct.pack("<QQ", seed & (1 << 64) - 1, position)
    bits = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
    return (bits >> 11) * 2.0**-53
