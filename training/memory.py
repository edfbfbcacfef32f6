"""How much memory a training has in use, how much there is left, and when there was not enough."""

from __future__ import annotations

import psutil
import torch

from adapters.environment import memory_left as memory_left_of_container


def memory_in_use(device: torch.device) -> int:
    """Bytes: on a GPU the most that was allocated since the last question, else the process's."""
    if device.type != "cuda":
        return int(psutil.Process().memory_info().rss)
    most = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return int(most)


def memory_left(device: torch.device) -> int:
    """Bytes that tensors could still take on ``device``.

    What torch keeps of a GPU unused counts. Without one it is what the machine could give without
    swapping, or what a container's limit leaves where that is less.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    available = int(psutil.virtual_memory().available)
    granted = memory_left_of_container()
    return available if granted is None else min(available, granted)


def is_out_of_memory(error: BaseException) -> bool:
    """Also on a CPU, where torch has no class of its own for it."""
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or on_cpu
