"""The keys and values of every running sequence and of the prefixes that may come again."""

from __future__ import annotations

import math

import torch

from adapters.base import Architecture
from server.engine.blocks import BLOCK_TOKENS
from server.engine.pages import spread


class KVCache:
    """``keys`` and ``values``: for each layer [blocks, kv_heads, BLOCK_TOKENS, head_dim].

    That is torch's layout; native kernels keep keys as [head_dim, BLOCK_TOKENS] in the same place.

    Which token lies where is the scheduler's affair. Places are written before they are read, so
    the memory starts uninitialised; a CPU commits it only when it is touched, where Linux has them
    in huge pages: 2 MiB are 1,024 tokens of Qwen3-0.6B's keys in one layer, 112 MiB of all layers.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        blocks: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (blocks, architecture.kv_heads, BLOCK_TOKENS, architecture.head_dim)
        count = 2 * architecture.layers
        if device.type == "cpu":
            pieces = spread(count, math.prod(shape) * dtype.itemsize)
            tensors = [piece.view(dtype).view(shape) for piece in pieces]
        else:
            tensors = [torch.empty(shape, dtype=dtype, device=device) for _ in range(count)]
        self.keys, self.values = tensors[: count // 2], tensors[count // 2 :]


def bytes_per_token(architecture: Architecture, dtype: torch.dtype) -> int:
    """What one token's keys and values take in all layers."""
    heads = 2 * architecture.layers * architecture.kv_heads
    return heads * architecture.head_dim * dtype.itemsize
