"""How tests sample: draws in short, both samplers, and the slow and obvious way to do it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch

from server.engine.draw import Draw, Drawn, bias_of
from server.engine.history import History
from server.engine.native.build import library
from server.engine.native.sampling import NativeSampler
from server.engine.sampling import Sampler, sample
from server.engine.types import SamplingParams

SAMPLERS = ("torch", "native")


def sampler_of(name: str) -> Sampler | None:
    """``None`` where this machine has no C compiler."""
    if name == "torch":
        return sample
    compiled = library()
    return None if compiled is None else NativeSampler(compiled)


def draw_of(
    sampling: SamplingParams,
    uniform: float = 0.5,
    *,
    prompt: Iterable[int] = (),
    reply: Iterable[int] = (),
    withheld: Iterable[int] = (),
    allowed: np.ndarray | None = None,
) -> Draw:
    """A draw behind ``prompt`` and ``reply``. ``allowed``: [vocab] bool."""
    return Draw(
        sampling=sampling,
        uniform=uniform,
        history=History(prompt).after(reply),
        bias=bias_of(sampling),
        withheld=array("i", withheld),
        mask=None if allowed is None else packed(allowed),
    )


def packed(allowed: np.ndarray) -> np.ndarray:
    """Bits in words of 32, the lowest first."""
    padded = np.zeros(-(-allowed.size // 32) * 32, dtype=bool)
    padded[: allowed.size] = allowed
    return np.packbits(padded, bitorder="little").view(np.int32)


def tokens_of(results: Iterable[Drawn]) -> list[int | None]:
    return [result.token for result in results]


def edited(sampler: Sampler, logits: torch.Tensor, draw: Draw) -> torch.Tensor:
    """``logits`` ([vocab]) as the sampler left them."""
    changed = logits.clone().unsqueeze(0)
    sampler(changed, [draw])
    return changed[0]


# Weights are rounded to about 1e-6 of their size; this is how far a draw may be off an edge.
EDGE = 1e-5


@dataclass(frozen=True)
class Oracle:
    """Which tokens a row may draw, from its logits after all edits: by sorting everything."""

    logits: torch.Tensor
    draw: Draw

    @cached_property
    def _descending(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits.double().sort(descending=True, stable=True)

    def probabilities(self, top_p: float, min_p: float) -> torch.Tensor:
        """Of every token, fp64, with these two in place of the draw's own."""
        top_k = self.draw.sampling.top_k
        values, ids = self._descending
        weights = ((values - values[0]) / self.draw.temperature).exp()
        kept = torch.ones_like(weights, dtype=torch.bool)
        if top_k:
            kept &= values >= values[min(top_k, len(values)) - 1]
        weights = weights * kept
        if top_p < 1.0:
            kept &= weights.cumsum(0) - weights < top_p * weights.sum()
        kept &= weights >= min_p * weights[0]
        kept[0] = True
        weights = weights * kept
        return torch.zeros_like(weights).scatter(0, ids, weights) / weights.sum()

    def accepts(self, token: int) -> bool:
        """Whether the uniform number is on ``token``, give or take an ``EDGE``."""
        return any(self._is_on(token, rounding) for rounding in self._roundings)

    def is_sure_of(self, token: int) -> bool:
        """Whether no rounding could make it another."""
        return all(self._is_on(token, rounding, -EDGE) for rounding in self._roundings)

    @cached_property
    def _roundings(self) -> list[torch.Tensor]:
        sampling = self.draw.sampling
        tops = (-EDGE, 0.0, EDGE) if sampling.top_p < 1.0 else (0.0,)
        floors = (1 - EDGE, 1, 1 + EDGE) if sampling.min_p else (1,)
        return [
            self.probabilities(sampling.top_p + top, sampling.min_p * floor)
            for top, floor in product(tops, floors)
        ]

    def _is_on(self, token: int, probabilities: torch.Tensor, slack: float = EDGE) -> bool:
        end = float(probabilities[: token + 1].sum())
        begin = end - float(probabilities[token])
        uniform = self.draw.uniform
        return float(probabilities[token]) > 0 and begin - slack <= uniform <= end + slack
