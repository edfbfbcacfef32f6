"""The model's own logprobs of what was drawn, and of the likeliest tokens beside it."""

from __future__ import annotations

import torch

from server.engine.sampling.filters import largest, mass
from server.engine.types import TokenLogprobs

# How many more than asked for, so that ties at the edge are seen.
TIES = 16


class Logprobs:
    """Of rows of ``logits`` ([rows, vocab] fp32, not changed afterwards), by log-softmax."""

    def __init__(self, logits: torch.Tensor) -> None:
        self._logits = logits
        highest = logits.amax(dim=-1, keepdim=True)
        self._total = highest.double() + mass((logits - highest).exp()).log()

    def of(self, tokens: list[int], wanted: list[int]) -> list[TokenLogprobs]:
        """For each row the logprob of its token, and as many of the likeliest as are wanted."""
        ids = torch.tensor(tokens, device=self._logits.device).unsqueeze(1)
        chosen = (self._logits.gather(1, ids).double() - self._total).squeeze(1).tolist()
        values, likeliest = self._likeliest(min(max(wanted), self._logits.shape[-1]))
        logprobs = (values.double() - self._total).tolist()
        return [
            TokenLogprobs(token, logprob, tuple(zip(others, theirs, strict=True))[:count])
            for token, logprob, others, theirs, count in zip(
                tokens, chosen, likeliest.tolist(), logprobs, wanted, strict=True
            )
        ]

    def _likeliest(self, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        vocabulary = self._logits.shape[-1]
        size = min(most + TIES, vocabulary)
        values, ids = largest(self._logits, size)
        if most and size < vocabulary and bool((values[:, most - 1] == values[:, -1]).any()):
            values, ids = largest(self._logits, vocabulary)
        return values[:, :most], ids[:, :most]
