"""Trying what only some machines can do, before a training relies on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

logger = logging.getLogger(__name__)

# Of the norm of what is expected: some times what rounding to bf16 leaves.
TOLERANCE = 0.03

Given = Callable[[], Sequence[torch.Tensor]]


def agrees(what: str, found: Given, expected: Given) -> bool:
    """Whether ``found`` gives the tensors that ``expected`` gives, up to rounding to 16 bits.

    It may fail: then, and where they differ, the log says that ``what`` is not used. Both may ask
    for gradients, also where the caller, as a validation does, wants none.
    """
    try:
        with torch.enable_grad():
            pairs = list(zip(found(), expected(), strict=True))
        distance = max(_distance(one.detach().cpu(), other.detach()) for one, other in pairs)
    except Exception as error:  # noqa: BLE001 - whatever a library or a GPU says
        logger.warning("%s fails here and is not used, which is slower: %s", what, error)
        return False
    if distance <= TOLERANCE:
        return True
    logger.warning(
        "%s is %.3g off its formula here and is not used, which is slower.", what, distance
    )
    return False


def _distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Of their difference to ``expected``; infinite where there is no number."""
    off = (found.double() - expected.double()).norm() / expected.double().norm()
    return float(off.nan_to_num(float("inf")))
