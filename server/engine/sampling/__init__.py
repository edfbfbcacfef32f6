"""Choosing the next token of each row, from logits and one uniform number a row.

The order is vLLM's up to the temperature and transformers' from there on:

1. logprobs are taken, if asked for: the model's own, before all that follows (vLLM's default);
2. the grammar's mask; end tokens and stop ids while there are fewer than ``min_tokens``;
3. ``logit_bias``;
4. repetition penalty over prompt and reply, then frequency and presence penalty over the reply;
5. temperature (0: the largest logit is the answer, of equals the one with the lowest id);
6. top-k, of which ties at the edge are kept; top-p over the probabilities of what is left, of
   equals the lower ids first; min-p, a share of the largest probability;
7. the draw: tokens in order of id, the first whose probability, added to those before it, passes
   the row's uniform number.

A row's number is made from its seed and position, and nothing that is computed for a row depends
on another, so its token is the same in any company. The vocabulary is not sorted: the largest
logits are enough unless a filter reaches beyond them.

:func:`sample` does it with torch on any device, and is what the native sampler is tested against.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows

import torch

from server.engine.draw import Draw, Drawn
from server.engine.native.build import library
from server.engine.native.sampling import NativeSampler
from server.engine.sampling.reference import sample

__all__ = ["Sampler", "sample", "sampler_for"]

# Takes logits ([rows, vocab] fp32, changed in place) and a draw for each row.
Sampler = Callable[[torch.Tensor, Rows[Draw]], list[Drawn]]


def sampler_for(device: torch.device, *, may_be_native: bool = True) -> Sampler:
    """The fastest way to sample on ``device``."""
    native = library() if device.type == "cpu" and may_be_native else None
    return sample if native is None else NativeSampler(native)
