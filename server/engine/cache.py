"""The keys and values of every running sequence: one contiguous row (slot) each, in every layer."""

from __future__ import annotations

import torch

from adapters.base import Architecture
from server.engine.batch import Batch

# Of the memory that is free once the weights are loaded, so much may become cache on a GPU.
GPU_SHARE = 0.8


class KVCache:
    """``keys`` and ``values``: for each layer [slots, kv_heads, context, head_dim].

    ``tokens``: [slots, context] int64, what lies in each row. Rows are written before they are
    read, so they start uninitialised; a CPU commits their memory only when it is touched.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        slots: int,
        context_length: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (slots, architecture.kv_heads, context_length, architecture.head_dim)
        layers = range(architecture.layers)
        self.keys = [torch.empty(shape, dtype=dtype, device=device) for _ in layers]
        self.values = [torch.empty(shape, dtype=dtype, device=device) for _ in layers]
        self.tokens = torch.empty((slots, context_length), dtype=torch.int64, device=device)

    def write_tokens(self, batch: Batch) -> None:
        self.tokens[batch.slots, batch.positions] = batch.tokens

    def write(self, layer: int, batch: Batch, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store ``keys`` and ``values`` ([T, kv_heads, head_dim]) at the places of ``batch``."""
        self.keys[layer][batch.slots, :, batch.positions] = keys
        self.values[layer][batch.slots, :, batch.positions] = values


def affordable_slots(
    architecture: Architecture,
    wanted: int,
    context_length: int,
    dtype: torch.dtype,
    device: torch.device,
) -> int:
    """``wanted``, or on a GPU with less free memory as many rows as fit it (at least one)."""
    if device.type != "cuda":
        return wanted
    free, _ = torch.cuda.mem_get_info(device)
    per_token = 2 * architecture.layers * architecture.kv_heads * architecture.head_dim
    per_slot = per_token * context_length * dtype.itemsize
    return max(1, min(wanted, int(free * GPU_SHARE) // per_slot))
