"""What changes the logits before anything is chosen: masks, biases and penalties."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from collections.abc import Sequence as Rows
from itertools import chain, repeat

import numpy as np
import torch

from server.engine.draw import Draw
from server.engine.transfer import to_device

WORD = 32


def edit(logits: torch.Tensor, draws: Rows[Draw]) -> None:
    """Change ``logits`` ([rows, vocab] fp32) in place as ``draws`` say.

    Only the tokens concerned are touched. They are computed in fp64 and rounded once. A GPU is not
    waited for.
    """
    constrain(logits, draws)
    penalise(logits, draws)


def constrain(logits: torch.Tensor, draws: Rows[Draw]) -> None:
    """All edits up to the penalties."""
    mask(logits, draws)
    withhold(logits, draws)
    bias(logits, draws)


def mask(logits: torch.Tensor, draws: Rows[Draw]) -> None:
    """-inf where a grammar allows nothing."""
    rows = [row for row, draw in enumerate(draws) if draw.mask is not None]
    if not rows:
        return
    vocabulary = logits.shape[-1]
    packed = np.zeros((len(rows), -(-vocabulary // WORD)), dtype=np.int32)
    for own, row in zip(packed, rows, strict=True):
        given = draws[row].mask
        assert given is not None
        own[: given.size] = given[: own.size]
    words = to_device(torch.from_numpy(packed), logits.device)
    bits = words.unsqueeze(-1) >> torch.arange(WORD, dtype=torch.int32, device=logits.device)
    allowed = (bits & 1).bool().flatten(1)[:, :vocabulary]
    index = to_device(torch.tensor(rows), logits.device)
    logits[index] = logits[index].masked_fill(~allowed, float("-inf"))


def withhold(logits: torch.Tensor, draws: Rows[Draw]) -> None:
    """-inf for tokens that may not come yet. Ids that the base does not have mean nothing."""
    vocabulary = logits.shape[-1]
    concerned = [
        (row, array("i", (token for token in draw.withheld if token < vocabulary)))
        for row, draw in enumerate(draws)
        if draw.withheld
    ]
    if concerned:
        logits[places(concerned, logits.device)] = float("-inf")


def bias(logits: torch.Tensor, draws: Rows[Draw]) -> None:
    """Add the biases."""
    concerned = [(row, draw.bias) for row, draw in enumerate(draws) if draw.bias is not None]
    if concerned:
        rows, ids = places(((row, one.ids) for row, one in concerned), logits.device)
        values = joined((one.values for _, one in concerned), np.float32, logits.device)
        logits[rows, ids] = (logits[rows, ids].double() + values.double()).float()


def penalise(logits: torch.Tensor, draws: Rows[Draw]) -> None:
    """Make tokens that were seen less likely, or more.

    Source: arXiv 1909.05858 and transformers for the repetition penalty; for the others
    https://platform.openai.com/docs/api-reference/chat/create, as in vLLM.
    """
    concerned = [(row, draw.history) for row, draw in enumerate(draws) if draw.history is not None]
    if not concerned:
        return
    device = logits.device
    rows, ids = places(((row, seen.ids) for row, seen in concerned), device)
    counts = joined((seen.counts for _, seen in concerned), np.int32, device)
    settings = [draw.sampling for draw in draws]
    factors = [
        (each.repetition_penalty, each.frequency_penalty, each.presence_penalty)
        for each in settings
    ]
    own = to_device(torch.tensor(factors, dtype=torch.float32), device).double()
    repetition, frequency, presence = own[rows].unbind(1)
    scores = logits[rows, ids].double()
    scores = torch.where(scores < 0, scores * repetition, scores / repetition)
    scores -= counts * frequency
    scores -= torch.where(counts > 0, presence, 0.0)
    logits[rows, ids] = scores.float()


def places(
    concerned: Iterable[tuple[int, array[int]]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and ids, int64 each, of every token of ``concerned``."""
    pairs = list(concerned)
    rows = chain.from_iterable(repeat(row, len(ids)) for row, ids in pairs)
    ids = joined((ids for _, ids in pairs), np.int64, device)
    return to_device(torch.tensor(list(rows), dtype=torch.int64), device), ids


def joined(
    parts: Iterable[array[int] | array[float]],
    dtype: type[np.int32 | np.int64 | np.float32],
    device: torch.device,
) -> torch.Tensor:
    """All of ``parts``, one after the other, in a copy."""
    numbers = np.concatenate([np.asarray(part, dtype=dtype) for part in parts])
    return to_device(torch.from_numpy(numbers), device)
