"""The state of torch's generators, which dropout and noise are drawn from."""

from __future__ import annotations

from typing import Any

import torch


def random_state() -> dict[str, Any]:
    """That of the CPU's generator and, where there is one, of this process's GPU."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random(state: dict[str, Any]) -> None:
    """Draw again what was drawn after :func:`random_state` gave ``state``."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
