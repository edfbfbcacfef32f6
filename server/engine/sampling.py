"""Choosing the next token of each row. Distributions equal those of transformers' processors.

The order is theirs: repetition penalty, temperature, top-k, top-p. The vocabulary is not sorted:
the largest logits are enough unless top-p reaches beyond them. Each draw uses one uniform number
made from the row's seed and position, so it does not depend on what else is in the batch.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch

from server.engine.sequence import Sequence
from server.engine.types import SamplingParams

# Candidates of a row without top-k, and how many more than top-k, so that ties at its edge are in.
CANDIDATES = 1024
TIES = 32
# Below this a distribution is its maximum; dividing by it would overflow.
GREEDY_BELOW = 1e-5


@dataclass(frozen=True, slots=True)
class Draw:
    """One row to sample. ``history``: int64 ids of prompt and reply so far, for the penalty."""

    sampling: SamplingParams
    uniform: float
    history: torch.Tensor

    @property
    def is_greedy(self) -> bool:
        return self.sampling.temperature < GREEDY_BELOW


def draw_for(sequence: Sequence, tokens: torch.Tensor) -> Draw:
    """The draw of ``sequence``'s next token. ``tokens``: [slots, context], the cache's rows."""
    position = len(sequence.tokens)
    history = tokens[sequence.slot, :position]
    return Draw(sequence.sampling, uniform(sequence.seed, position), history)


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) with 53 random bits; equal arguments give equal numbers everywhere."""
    key = struct.pack("<QQ", seed & (1 << 64) - 1, position)
    bits = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
    return (bits >> 11) * 2.0**-53


def sample(logits: torch.Tensor, draws: Rows[Draw]) -> list[int | None]:
    """One token for each row of ``logits`` ([rows, vocab] fp32, changed in place).

    ``None`` where the logits are no numbers: something before them overflowed.
    """
    for index, draw in enumerate(draws):
        penalise(logits[index], draw.history, draw.sampling.repetition_penalty)
    highest, tokens = logits.max(dim=-1)
    by_window: dict[int, list[int]] = defaultdict(list)
    for index, draw in enumerate(draws):
        if not draw.is_greedy:
            by_window[window(draw.sampling, logits.shape[-1])].append(index)
    for size, indices in by_window.items():
        drawn = _drawn(logits[indices], [draws[index] for index in indices], size)
        tokens[indices] = drawn
    results = torch.where(highest.isfinite(), tokens, -1).tolist()
    return [token if token >= 0 else None for token in results]


def window(sampling: SamplingParams, vocabulary: int) -> int:
    """How many candidates a row needs; 0 where all tokens are, unsorted. Free of other rows."""
    if sampling.top_k > 0:
        return min(sampling.top_k + TIES, vocabulary)
    return 0 if sampling.top_p >= 1.0 else min(CANDIDATES, vocabulary)


def penalise(logits: torch.Tensor, history: torch.Tensor, penalty: float) -> None:
    """Make the tokens of ``history`` less likely, in place. Source: arXiv 1909.05858, as in HF."""
    if penalty == 1.0:
        return
    scores = logits[history]
    logits[history] = torch.where(scores < 0, scores * penalty, scores / penalty)


def _drawn(logits: torch.Tensor, draws: Rows[Draw], size: int) -> torch.Tensor:
    """Tokens [rows] of rows that share a window of ``size`` candidates."""
    device = logits.device
    settings = [draw.sampling for draw in draws]
    uniforms = torch.tensor([draw.uniform for draw in draws], dtype=torch.float64, device=device)
    temperatures = torch.tensor([each.temperature for each in settings], device=device)
    logits /= temperatures.unsqueeze(1)
    if size == 0:
        return pick(logits.double().softmax(dim=-1), uniforms)
    values, tokens = logits.topk(size, dim=-1)
    total = logits.logsumexp(dim=-1, keepdim=True)
    chosen = pick(kept(values, total, settings), uniforms)
    drawn = tokens.gather(1, chosen.unsqueeze(1)).squeeze(1)
    beyond = _uncovered(values, total, settings, logits.shape[-1])
    if beyond:
        values, tokens = logits[beyond].sort(dim=-1, descending=True)
        weights = kept(values, total[beyond], [settings[index] for index in beyond])
        chosen = pick(weights, uniforms[beyond])
        drawn[beyond] = tokens.gather(1, chosen.unsqueeze(1)).squeeze(1)
    return drawn


def kept(values: torch.Tensor, total: torch.Tensor, settings: Rows[SamplingParams]) -> torch.Tensor:
    """Weights [rows, candidates] fp64 of descending ``values`` after top-k and top-p.

    ``total``: [rows, 1], log of the sum over the whole vocabulary. The weights need not add to 1.
    """
    device, last = values.device, values.shape[-1]
    top_k = torch.tensor([(each.top_k or last) for each in settings], device=device)
    top_p = torch.tensor([each.top_p for each in settings], dtype=torch.float64, device=device)
    edge = values.gather(1, top_k.clamp(max=last).sub(1).unsqueeze(1))
    weights = (values.double() - total.double()).exp().masked_fill(values < edge, 0.0)
    has_k = torch.tensor([each.top_k > 0 for each in settings], device=device).unsqueeze(1)
    weights = torch.where(has_k, weights / weights.sum(dim=-1, keepdim=True), weights)
    before = weights.cumsum(dim=-1) - weights
    is_in_p = (before < top_p.unsqueeze(1)) | (top_p >= 1.0).unsqueeze(1)
    is_in_p[:, 0] = True
    return weights.masked_fill(~is_in_p, 0.0)


def pick(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Index [rows] into ``weights`` [rows, n] fp64, by the inverse of their distribution."""
    sums = weights.cumsum(dim=-1)
    ends = sums[:, -1:].contiguous()
    targets = uniforms.unsqueeze(1) * ends
    index = torch.searchsorted(sums, targets, right=True).squeeze(1)
    # Rounding may leave the target at the very end: then the last token with weight is meant.
    last = torch.searchsorted(sums, ends).squeeze(1)
    return torch.minimum(index, last).clamp_(max=weights.shape[-1] - 1)  # no numbers: any index


def _uncovered(
    values: torch.Tensor, total: torch.Tensor, settings: Rows[SamplingParams], vocabulary: int
) -> list[int]:
    """Rows whose top-p reaches beyond their candidates (never with top-k, which bounds them)."""
    if values.shape[-1] == vocabulary:
        return []
    mass = (values.double() - total.double()).exp().sum(dim=-1).tolist()
    return [
        index
        for index, (each, covered) in enumerate(zip(settings, mass, strict=True))
        if not each.top_k and covered < each.top_p
    ]
