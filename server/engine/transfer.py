"""Copies to a device that nobody waits for."""

from __future__ import annotations

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on ``device``; on a GPU it is copied behind what is queued there, unwaited for.

    From ordinary memory the driver may wait for the queue first; from pinned memory it does not.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
