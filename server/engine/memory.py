"""How much this machine's memory affords: tokens of KV cache, bytes of adapters."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from adapters.errors import LcccError
from server.engine.blocks import BLOCK_TOKENS, blocks_for
from server.engine.cache import bytes_per_token
from server.engine.config import EngineConfig

# Of a GPU's memory that is free once the weights are loaded, so much may become cache.
GPU_SHARE = 0.8
# Of the physical memory of a machine without one. What is not used is not committed, but for what
# is left of huge pages.
CPU_SHARE = 0.25
# For adapters that are kept ready: of the same memory, and of what the cache leaves of a GPU's.
CPU_ADAPTER_SHARE = 0.1
GPU_ADAPTER_SHARE = 0.4
# What a container may use, as Linux tells it (cgroup v2 and v1).
LIMIT_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class MemoryTooSmall(LcccError):
    """Not even one conversation of full length fits."""


def cache_blocks(config: EngineConfig, dtype: torch.dtype) -> int:
    """How many blocks the KV cache gets: as asked, or for all that run, as far as memory goes.

    Raises:
        MemoryTooSmall: less than one full context.
    """
    if config.kv_cache_tokens is not None:
        return blocks_for(config.kv_cache_tokens)
    wanted = config.running_limit * blocks_for(config.context_length)
    per_token = bytes_per_token(config.base.architecture, dtype)
    budget = int(usable_bytes(config) * (GPU_SHARE if _is_cuda(config) else CPU_SHARE))
    blocks = min(wanted, budget // (per_token * BLOCK_TOKENS))
    if blocks < blocks_for(config.context_length):
        raise MemoryTooSmall(
            f"A KV cache for one conversation of {config.context_length} tokens takes "
            f"{per_token * config.context_length:,} bytes, but only {budget:,} are to be had. "
            "Lower max_context, or set kv_cache_tokens to at least max_context."
        )
    return blocks


def adapter_budget(config: EngineConfig) -> int:
    """How many bytes of adapters may be in memory. On a GPU, call it once the cache is there."""
    if config.adapter_cache_bytes is not None:
        return config.adapter_cache_bytes
    share = GPU_ADAPTER_SHARE if _is_cuda(config) else CPU_ADAPTER_SHARE
    return int(usable_bytes(config) * share)


def usable_bytes(config: EngineConfig) -> int:
    """Free memory of the GPU; without one, the machine's, or its container's where that is less."""
    if _is_cuda(config):
        return torch.cuda.mem_get_info()[0]
    limits = [int(text) for file in LIMIT_FILES if (text := _read(file)).isdigit()]
    return min([psutil.virtual_memory().total, *limits])


def _is_cuda(config: EngineConfig) -> bool:
    return config.device_name == "cuda"


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
