"""Top-k, top-p and min-p over the largest logits, and the draw from what they keep."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass
from math import inf

import torch

from server.engine.draw import Draw

BLOCK = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The numbers of some draws: [rows, 1] fp64 each, on the logits' device."""

    uniform: torch.Tensor
    temperature: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor

    @classmethod
    def of(cls, draws: Rows[Draw], device: torch.device) -> Settings:
        """One transfer for all of them."""
        numbers = [
            (
                draw.uniform,
                draw.temperature,
                draw.sampling.top_k,
                draw.sampling.top_p,
                draw.sampling.min_p,
            )
            for draw in draws
        ]
        table = torch.tensor(numbers, dtype=torch.float64, device=device)
        columns = table.split(1, dim=1)
        return cls(
            uniform=columns[0],
            temperature=columns[1],
            top_k=columns[2],
            top_p=columns[3],
            min_p=columns[4],
        )


def largest(logits: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and ids [rows, size], descending, of equals the lower id first.

    Which of those that equal the last value are among them is left open.
    """
    if size == logits.shape[-1]:
        return logits.sort(dim=-1, descending=True, stable=True)
    values, ids = logits.topk(size, dim=-1)
    ids, order = ids.sort(dim=-1)
    values, order = values.gather(1, order).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(1, order)


def mass(weights: torch.Tensor) -> torch.Tensor:
    """Sums [rows, 1] fp64 over rows, by blocks: then their order does not depend on the batch."""
    whole = weights.shape[-1] // BLOCK * BLOCK
    blocks = weights[:, :whole].unflatten(1, (whole // BLOCK, BLOCK))
    sums = blocks.sum(dim=-1, dtype=torch.float64).sum(dim=-1, keepdim=True)
    return sums + weights[:, whole:].sum(dim=-1, keepdim=True, dtype=torch.float64)


def kept(
    values: torch.Tensor, weights: torch.Tensor, total: torch.Tensor, settings: Settings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of the descending ``values`` the filters leave: [rows, size] bool, a beginning each.

    ``weights``: [rows, size] fp64, each value's probability in relation to the largest one.
    ``total``: [rows, 1], the sum over the vocabulary; used where there is no top-k.

    Also the least value [rows] that this depends on: there must be none like it beyond ``values``.
    """
    last = values.shape[-1] - 1
    edge = values.gather(1, (settings.top_k.long() - 1).clamp(0, last))
    edge = edge.masked_fill(settings.top_k == 0, inf)
    is_kept = (values >= edge) | (settings.top_k == 0)
    in_k = weights.masked_fill(~is_kept, 0.0)
    total = torch.where(settings.top_k > 0, in_k.sum(dim=-1, keepdim=True), total)
    before = in_k.cumsum(dim=-1) - in_k
    is_kept &= (before < settings.top_p * total) | (settings.top_p >= 1.0)
    is_kept &= weights >= settings.min_p
    is_kept[:, 0] = True
    lowest = values.masked_fill(~is_kept, inf).amin(dim=-1)
    return is_kept, torch.minimum(lowest, edge.squeeze(1))


def pick(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Index [rows] into ``weights`` [rows, n], by the inverse of their distribution.

    ``uniforms``: [rows, 1] fp64.
    """
    sums = weights.cumsum(dim=-1, dtype=torch.float64)
    ends = sums[:, -1:].contiguous()
    index = torch.searchsorted(sums, uniforms * ends, right=True)
    # Rounding may leave the target at the very end: then the last token with weight is meant.
    last = torch.searchsorted(sums, ends)
    highest = weights.shape[-1] - 1  # where the weights are no numbers: any index
    return torch.minimum(index, last).clamp_(max=highest).squeeze(1)
