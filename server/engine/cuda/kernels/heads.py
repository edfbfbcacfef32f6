"""What happens to queries, keys and values of pieces between their projection and attention.

For single tokens, attention does it itself: see :mod:`.single`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.engine.blocks import BLOCK_TOKENS
from server.engine.cuda.kernels.adapters import expanded, factors, rows_of_b, span
from server.engine.cuda.step import Heads, Share, Step

BLOCK = tl.constexpr(BLOCK_TOKENS)


@triton.jit
def _prepare(
    qkv,
    keys,
    values,
    norm,
    cosines,
    sines,
    positions,
    places,
    token_stride,
    shrunk,
    shrunk_stride,
    starts,
    counts,
    addresses,
    ranks,
    stride,
    offset,
    epsilon,
    heads: tl.constexpr,
    kv_heads: tl.constexpr,
    half: tl.constexpr,
    tile: tl.constexpr,
    has_norm: tl.constexpr,
    has_lora: tl.constexpr,
):
    number, head = tl.program_id(0), tl.program_id(1)
    width = (heads + 2 * kv_heads) * 2 * half
    if tl.load(counts + number * stride) == 0:
        return
    tokens, has_token = span(number, starts, counts, stride, tile)
    position = tl.load(positions + tokens * token_stride, mask=has_token, other=-1)
    has_token &= position >= 0
    lane = tl.arange(0, half)
    left, right = head * 2 * half + lane, head * 2 * half + half + lane
    line = qkv + tokens[:, None].to(tl.int64) * width
    mask = has_token[:, None] & (lane >= 0)[None, :]
    angle = tl.where(has_token, position, 0)[:, None] * 2 * half + lane[None, :]
    cosine, sine = tl.load(cosines + angle), tl.load(sines + angle)
    if has_lora:
        b, rank = factors(number, addresses, ranks, stride, offset, qkv)
        first_b = rows_of_b(b, rank, width, left, 0)
        second_b = rows_of_b(b, rank, width, right, 0)
    x = tl.load(line + left[None, :], mask=mask, other=0.0).to(tl.float32)
    y = tl.load(line + right[None, :], mask=mask, other=0.0).to(tl.float32)
    if has_lora:
        projection = (head >= heads).to(tl.int32) + (head >= heads + kv_heads).to(tl.int32)
        first = projection * rank
        given = shrunk, shrunk_stride
        x += expanded(*given, first, rank, b, first_b, width, tokens, has_token, left)
        y += expanded(*given, first, rank, b, second_b, width, tokens, has_token, right)
    if head < heads + kv_heads:
        if has_norm:
            mean = (tl.sum(x * x, axis=1) + tl.sum(y * y, axis=1)) / (2 * half)
            scale = tl.expand_dims(tl.rsqrt(mean + epsilon), 1)
            x *= scale * tl.load(norm + left).to(tl.float32)[None, :]
            y *= scale * tl.load(norm + right).to(tl.float32)[None, :]
        turned = x * cosine - y * sine
        y = y * cosine + x * sine
        x = turned
    if head < heads:
        tl.store(line + left[None, :], x, mask=mask)
        tl.store(line + right[None, :], y, mask=mask)
    else:
        place = tl.load(places + tokens * token_stride, mask=has_token, other=0)
        block = (place // BLOCK).to(tl.int64) * kv_heads + (head - heads) % kv_heads
        at = ((block * BLOCK + place % BLOCK) * 2 * half)[:, None] + lane[None, :]
        cache = keys
        if head >= heads + kv_heads:
            cache = values
        tl.store(cache + at, x, mask=mask)
        tl.store(cache + at + half, y, mask=mask)


def prepare_heads(
    qkv: torch.Tensor,
    cache: tuple[torch.Tensor, torch.Tensor],
    step: Step,
    *,
    heads: Heads,
    share: Share | None,
) -> None:
    """What :meth:`server.engine.cuda.step.Kernels.attend` does first.

    Queries stay in ``qkv``, keys and values go to their places in the ``cache``.
    """
    keys, values = cache
    _, kv_heads, _, head_dim = keys.shape
    _prepare[(step.tiles, heads.count + 2 * kv_heads)](
        qkv,
        keys,
        values,
        heads.norm,
        *heads.angles,
        step.positions,
        step.places,
        step.positions.stride(0),
        None if share is None else share.shrunk,
        0 if share is None else share.shrunk.stride(0),
        step.starts,
        step.counts,
        step.addresses,
        step.ranks,
        step.ranks.stride(0),
        0 if share is None else share.offset,
        heads.epsilon,
        heads.count,
        kv_heads,
        head_dim // 2,
        step.tile,
        heads.norm is not None,
        share is not None,
        num_warps=4,
    )
