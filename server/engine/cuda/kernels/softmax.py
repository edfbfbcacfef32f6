"""What queries find in keys and values, one block after another.

Source: FlashAttention (arXiv 2205.14135), over the blocks of PagedAttention (arXiv 2309.06180).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.engine.blocks import BLOCK_TOKENS

BLOCK = tl.constexpr(BLOCK_TOKENS)
# The keys that are looked at together; fp32 products are made without matrix units.
KEYS = {torch.float32: 16}
NARROW_KEYS = 64
# tl.dot needs so many rows.
LEAST_ROWS = 16


def keys_at_once(dtype: torch.dtype) -> int:
    """How many keys :func:`scored` and :func:`taken_up` are given."""
    return KEYS.get(dtype, NARROW_KEYS)


@triton.jit
def lines_of(table, index, is_there, kv_heads: tl.constexpr, kv_head):
    """[keys] int64: the lines of the cache that hold the tokens ``index`` of a text."""
    block = tl.load(table + index // BLOCK, mask=is_there, other=0)
    return (block.to(tl.int64) * kv_heads + kv_head) * BLOCK + index % BLOCK


@triton.jit
def load_keys(keys, line, is_there, head_dim: tl.constexpr):
    """[head_dim, keys] of those lines; zeros where there is none."""
    dim = tl.arange(0, head_dim)
    at = keys + line[None, :] * head_dim + dim[:, None]
    return tl.load(at, mask=is_there[None, :], other=0.0)


@triton.jit
def load_values(values, line, is_there, head_dim: tl.constexpr):
    """[keys, head_dim] of those lines; zeros where there is none."""
    dim = tl.arange(0, head_dim)
    at = values + line[:, None] * head_dim + dim[None, :]
    return tl.load(at, mask=is_there[:, None], other=0.0)


@triton.jit
def scored(q, k, is_seen, scale):
    """[queries, keys] fp32: the scores of ``k`` [head_dim, keys]; none of what is not seen."""
    scores = tl.dot(q, k, input_precision="ieee") * scale
    return tl.where(is_seen, scores, float("-inf"))


@triton.jit
def taken_up(scores, v, highest, total, found):
    """``highest``, ``total`` [queries] and ``found`` [queries, head_dim], all fp32, with ``v``.

    ``found`` are values times weights, ``total`` is the sum of these, with the ``highest`` score of
    a query as origin.
    """
    higher = tl.maximum(highest, tl.max(scores, axis=1))
    origin = tl.where(higher == float("-inf"), 0.0, higher)  # who sees nothing yet
    weights = tl.exp(scores - origin[:, None])
    shrinking = tl.exp(highest - origin)
    total = total * shrinking + tl.sum(weights, axis=1)
    seen = tl.dot(weights.to(v.dtype), v, input_precision="ieee")
    return higher, total, found * shrinking[:, None] + seen
