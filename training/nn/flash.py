"""Attention within dialogues on GPUs: one call of the flash kernel for a pack, without a mask.

The kernel takes sequences of any lengths that lie end to end and computes each alone, so that it
costs the sum of the lengths' squares. A sequence may have more keys than queries; its queries are
the last of them. So a dialogue is a sequence whose keys begin with what the pack shares, and the
shared beginning is one more.

cuDNN's attention, which torch prefers on some GPUs, plans anew for every shape. Packs have hardly
two alike, and a plan took the host 2.3 ms, 200 ms a step of Qwen3-0.6B's shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch

_CAPABILITY = (8, 0)
_DTYPES = (torch.bfloat16, torch.float16)
_WIDEST_HEAD = 192  # some GPUs have no gradient for wider ones


class Spans(NamedTuple):
    """Which tokens of a pack of ``T`` are queries and keys of its ``S`` sequences, on the device.

    Sequence ``s`` has queries ``query_ends[s]`` to ``query_ends[s + 1]`` of the T tokens, and such
    keys of the K that ``sources`` picks from the T. Without ``sources`` they are the same tokens.
    ``first`` and ``own`` are the places among the K of the shared tokens, for each sequence that
    has them ([(S, shared)] in a row), and of all others.
    """

    query_ends: torch.Tensor  # [S + 1] int32
    key_ends: torch.Tensor  # [S + 1] int32
    most_queries: int
    most_keys: int
    shared: int = 0
    sources: torch.Tensor | None = None  # [K] int64
    first: torch.Tensor | None = None  # [S * shared] int64
    own: torch.Tensor | None = None  # [T - shared] int64

    @classmethod
    def of(cls, lengths: Sequence[int], shared: int, device: torch.device) -> Spans:
        """Those of a pack of ``shared`` tokens and dialogues of these ``lengths``."""
        if not shared:
            ends = sent(torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), device)
            return cls(ends, ends, max(lengths), max(lengths))
        queries = [0, shared, *(shared + end for end in accumulate(lengths))]
        keys = [0, shared, *(shared + end for end in accumulate(shared + one for one in lengths))]
        ends = sent(torch.tensor([queries, keys], dtype=torch.int32), device)
        beginning = torch.arange(shared)
        parts = [
            torch.cat((beginning, torch.arange(start, end))) for start, end in pairwise(queries[1:])
        ]
        sources = torch.cat((beginning, *parts))
        is_first = sources < shared
        places = (sources, is_first.nonzero().flatten(), (~is_first).nonzero().flatten())
        sizes = [len(one) for one in places]
        return cls(
            ends[0],
            ends[1],
            max(shared, *lengths),
            shared + max(lengths),
            shared,
            *sent(torch.cat(places), device).split(sizes),
        )


def is_possible(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel computes in ``dtype`` on ``device``."""
    return (
        device.type == "cuda"
        and dtype in _DTYPES
        and torch.cuda.get_device_capability(device) >= _CAPABILITY
        and torch.backends.cuda.is_flash_attention_available()
    )


def takes_heads(config: Any) -> bool:
    """Whether it computes heads as wide as those of the model that transformers' config is of."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return bool(width % 8 == 0 and width <= _WIDEST_HEAD)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    spans: Spans,
    *,
    scale: float | None,
    dropout: float = 0.0,
    window: int | None = None,
) -> torch.Tensor:
    """Causal attention of each sequence of ``spans``; a token sees ``window`` tokens at most.

    ``query``: [1, heads, T, width]; ``key`` and ``value``: [1, key heads, T, width]. Returned is
    [1, T, heads, width].
    """
    rows, keys, values = (one.squeeze(0).transpose(0, 1) for one in (query, key, value))
    if spans.sources is not None:
        keys, values = _Spread.apply(keys, spans), _Spread.apply(values, spans)
    sizes = {} if window is None else {"window_size_left": window - 1, "window_size_right": 0}
    # what torch.nn.attention.varlen calls; with its gradient in C++, where that has it in Python
    found: torch.Tensor = torch.ops.aten._flash_attention_forward(  # noqa: SLF001 # see above
        rows,
        keys,
        values,
        spans.query_ends,
        spans.key_ends,
        spans.most_queries,
        spans.most_keys,
        dropout,
        True,  # is_causal
        False,  # return_debug_mask
        scale=scale,
        **sizes,
    )[0]
    return found[None]


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``tensor`` on ``device``, for which nobody waits: not the host for what the GPU has to do."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class _Spread(torch.autograd.Function):
    """[T, heads, width] as the K keys that spans pick of them.

    The gradient of a shared token is the sum over all sequences, rounded once. torch's own of
    ``index_select`` would add them one by one in 16 bits, in an order that changes.
    """

    @staticmethod
    def forward(ctx: Any, tokens: torch.Tensor, spans: Spans) -> torch.Tensor:
        ctx.spans = spans
        assert spans.sources is not None
        return tokens.index_select(0, spans.sources)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        given, spans = gradients[0], ctx.spans
        first = given.index_select(0, spans.first).unflatten(0, (-1, spans.shared)).sum(0)
        return torch.cat((first, given.index_select(0, spans.own))), None
