"""The native sampler: packs the rows' settings for ``sampling.c`` and reads what it drew."""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections.abc import Sequence as Rows

import numpy as np
import torch

from server.engine.draw import Draw, Drawn, Failure
from server.engine.types import TokenLogprobs

# lccc_draw: addresses, doubles, sizes and top-k, floats, alternatives.
_DRAW = struct.Struct("@6P4d5q3fi")
_FAILURES: dict[int, Failure] = {-1: "not finite", -2: "none allowed"}


class NativeSampler:
    """Samples rows on a CPU as :func:`server.engine.sampling.sample` does, many times faster."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._sample = library.lccc_sample
        self._sample.restype = ctypes.c_int
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        self._sample.argtypes = [pointer, size, size, *[pointer] * 5, size]

    def __call__(self, logits: torch.Tensor, draws: Rows[Draw]) -> list[Drawn]:
        """One token for each row of ``logits`` ([rows, vocab] fp32 on the CPU, changed in place).

        Raises:
            MemoryError: there is none left.
        """
        assert logits.dtype == torch.float32
        assert logits.device.type == "cpu"
        logits = logits.contiguous()
        rows, vocabulary = len(draws), logits.shape[-1]
        asked = [draw.sampling.logprobs for draw in draws]
        most = min(max((count or 0 for count in asked), default=0), vocabulary)
        tokens = np.empty(rows, dtype=np.int32)
        logprobs = np.empty(rows, dtype=np.float32)
        others = np.full((rows, most), -1, dtype=np.int32)
        theirs = np.empty((rows, most), dtype=np.float32)
        settings = b"".join([packed(draw, most) for draw in draws])
        out = (each.ctypes.data for each in (tokens, logprobs, others, theirs))
        if self._sample(logits.data_ptr(), rows, vocabulary, settings, *out, most):
            raise MemoryError("no memory is left to sample with")
        found = tokens.tolist()
        if not any(count is not None for count in asked):
            return [drawn(token) for token in found]
        values, ids, ours = theirs.tolist(), others.tolist(), logprobs.tolist()
        return [
            drawn(token, None if count is None else report(token, ours[row], ids[row], values[row]))
            for row, (token, count) in enumerate(zip(found, asked, strict=True))
        ]


def packed(draw: Draw, most: int) -> bytes:
    """The draw as ``lccc_draw``. It points into the draw's arrays, which have to stay."""
    sampling, history, bias, mask = draw.sampling, draw.history, draw.bias, draw.mask
    if mask is not None:
        assert mask.dtype == np.int32
        assert mask.flags.c_contiguous
    return _DRAW.pack(
        address(history.ids) if history else 0,
        address(history.counts) if history else 0,
        address(bias.ids) if bias else 0,
        address(bias.values) if bias else 0,
        address(draw.withheld),
        0 if mask is None else mask.ctypes.data,
        draw.uniform,
        0.0 if draw.is_greedy else draw.temperature,
        sampling.top_p,
        sampling.min_p,
        len(history.ids) if history else 0,
        len(bias.ids) if bias else 0,
        len(draw.withheld),
        0 if mask is None else mask.size,
        sampling.top_k,
        sampling.repetition_penalty,
        sampling.presence_penalty,
        sampling.frequency_penalty,
        -1 if sampling.logprobs is None else min(sampling.logprobs, most),
    )


def address(numbers: array[int] | array[float]) -> int:
    """Where they lie; they must not grow meanwhile."""
    return numbers.buffer_info()[0]


def drawn(token: int, logprobs: TokenLogprobs | None = None) -> Drawn:
    """What a token of ``sampling.c`` means."""
    return Drawn(token, logprobs) if token >= 0 else Drawn(None, failure=_FAILURES[token])


def report(token: int, logprob: float, ids: list[int], logprobs: list[float]) -> TokenLogprobs:
    """Logprobs as they go out; an id of -1 is a place that is not filled."""
    pairs = zip(ids, logprobs, strict=True)
    return TokenLogprobs(token, logprob, tuple(pair for pair in pairs if pair[0] >= 0))
