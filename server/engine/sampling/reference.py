"""Sampling with torch, on any device: all rows at once, and no sort of the vocabulary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Sequence as Rows
from math import inf, isfinite, isnan

import torch

from server.engine.draw import Draw, Drawn
from server.engine.sampling.edits import edit
from server.engine.sampling.filters import Settings, kept, largest, mass, pick
from server.engine.sampling.logprobs import Logprobs
from server.engine.types import SamplingParams, TokenLogprobs

# How many candidates a row may have; where more are needed, all tokens are.
WINDOWS = (64, 256, 1024, 4096)
TOP_P_WINDOW = 1024
# How many more than top-k, so that ties at its edge are in.
TIES = 16
# How many logits a CPU works on at once.
LOGITS_ON_CPU = 1 << 19


def sample(logits: torch.Tensor, draws: Rows[Draw]) -> list[Drawn]:
    """One token for each row of ``logits`` ([rows, vocab] fp32, changed in place)."""
    if not draws:
        return []
    asking = [row for row, draw in enumerate(draws) if draw.sampling.logprobs is not None]
    logprobs = Logprobs(logits[asking]) if asking else None  # of a copy: the rows are edited next
    edit(logits, draws)
    tokens, peaks = _choose(logits, draws)
    reports: dict[int, TokenLogprobs] = {}
    if logprobs is not None:
        wanted = [draws[row].sampling.logprobs or 0 for row in asking]
        reports = dict(
            zip(asking, logprobs.of([tokens[row] for row in asking], wanted), strict=True)
        )
    return [
        result(draw, token, peak, reports.get(row))
        for row, (draw, token, peak) in enumerate(zip(draws, tokens, peaks, strict=True))
    ]


def result(draw: Draw, token: int, peak: float, logprobs: TokenLogprobs | None) -> Drawn:
    """What to say of a row whose largest logit, after all edits, is ``peak``."""
    has_own = logprobs is None or not isnan(logprobs.logprob)
    if has_own and isfinite(peak):
        return Drawn(token, logprobs)
    is_barred = has_own and peak == -inf and (draw.mask is not None or bool(draw.withheld))
    return Drawn(None, failure="none allowed" if is_barred else "not finite")


def window(sampling: SamplingParams, vocabulary: int) -> int:
    """How many candidates a row needs; 0 where all tokens are, unsorted. Free of other rows."""
    if sampling.top_k > 0:
        needed = sampling.top_k + TIES
    elif sampling.top_p < 1.0:
        needed = TOP_P_WINDOW
    else:
        return 0
    return next((size for size in WINDOWS if needed <= size < vocabulary), vocabulary)


def parts(rows: list[int], logits: torch.Tensor) -> Iterator[list[int]]:
    """``rows`` in pieces that are worked on at once: on a CPU few, so that they stay in its cache.

    It also keeps intermediate results below the size for which the allocator asks the system.
    """
    is_on_cpu = logits.device.type == "cpu"
    size = max(1, LOGITS_ON_CPU // logits.shape[-1]) if is_on_cpu else len(rows)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _choose(logits: torch.Tensor, draws: Rows[Draw]) -> tuple[list[int], list[float]]:
    """Tokens, and the largest logits. The device is waited for once unless a window was small."""
    vocabulary = logits.shape[-1]
    peaks, tokens = logits.max(dim=-1)
    is_short = torch.zeros_like(tokens, dtype=torch.bool)
    groups: dict[int, list[int]] = defaultdict(list)
    for row, draw in enumerate(draws):
        if not draw.is_greedy:
            groups[window(draw.sampling, vocabulary)].append(row)
    for size, group in groups.items():
        for rows in parts(group, logits):
            own = [draws[row] for row in rows]
            tokens[rows], is_short[rows] = _drawn(logits[rows], peaks[rows], own, size)
    found, short, highest = torch.stack([tokens, is_short, peaks.double()]).tolist()
    chosen = [int(token) for token in found]
    again = [row for row, flag in enumerate(short) if flag]
    for rows in parts(again, logits):
        own = [draws[row] for row in rows]
        redone, _ = _drawn(logits[rows], peaks[rows], own, vocabulary)
        for row, token in zip(rows, redone.tolist(), strict=True):
            chosen[row] = token
    return chosen, highest


def _drawn(
    logits: torch.Tensor, peaks: torch.Tensor, draws: Rows[Draw], size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [rows], and whether a row's filters keep more than ``size`` candidates, [rows] bool.

    ``peaks``: [rows], the largest logits. ``size`` 0: all tokens are candidates, in order of id.
    """
    settings, peaks = Settings.of(draws, logits.device), peaks.unsqueeze(1)
    temperatures = settings.temperature.float()
    if size == 0:
        weights = ((logits - peaks) / temperatures).exp()
        weights.masked_fill_(weights < settings.min_p, 0.0)
        tokens = pick(weights, settings.uniform)
        return tokens, torch.zeros_like(tokens, dtype=torch.bool)
    total = torch.zeros_like(settings.uniform)
    if not all(draw.sampling.top_k for draw in draws):
        total = mass(((logits - peaks) / temperatures).exp())
    values, ids = largest(logits, size)
    weights = ((values.double() - peaks.double()) / settings.temperature).exp()
    is_kept, lowest = kept(values, weights, total, settings)
    ids_in_order, order = ids.sort(dim=-1)
    chosen = pick(weights.masked_fill(~is_kept, 0.0).gather(1, order), settings.uniform)
    tokens = ids_in_order.gather(1, chosen.unsqueeze(1)).squeeze(1)
    last = values[:, -1]
    return tokens, (lowest <= last) & (last > -inf) & (size < logits.shape[-1])
