"""How much memory a training has in use."""

from __future__ import annotations

import psutil
import torch


def memory_in_use(device: torch.device) -> int:
    """Bytes: on a GPU the most that was allocated since the last question, else the process's."""
    if device.type != "cuda":
        return int(psutil.Process().memory_info().rss)
    most = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return int(most)


def memory_left(device: torch.device) -> int:
    """Bytes that tensors could still take on the GPU ``device``; what torch keeps unused counts."""
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept
