"""What this machine is called and how much memory it has just now, for those who look after it."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_CPU_NAME = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that are in use by anyone, and that there are."""

    used: int
    total: int


def device_title(kind: str) -> str:
    """The name of the GPU, or of the processor with its number of cores."""
    if kind == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return f"{_cpu_title()}, {os.cpu_count()} cores"


def own_bytes() -> int:
    """What this process has in memory."""
    return psutil.Process().memory_info().rss


def machine_memory() -> Memory:
    """The machine's own."""
    found = psutil.virtual_memory()
    return Memory(found.total - found.available, found.total)


def gpu_memory() -> Memory:
    """That of the GPU in use."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return Memory(total - free, total)


def _cpu_title() -> str:
    with suppress(OSError):
        for line in _CPU_NAME.read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
