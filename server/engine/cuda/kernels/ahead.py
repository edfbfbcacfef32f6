"""Bringing weights into the L2 cache before the inputs that they are multiplied with are there.

Source: ``cp.async.bulk.prefetch.L2``, PTX ISA 8.0; from compute capability 9.0 on.
"""

from __future__ import annotations

import triton
import triton.language as tl

# The bytes of one request, and how many are made at once.
PIECE = tl.constexpr(256)
LANES = tl.constexpr(128)


@triton.jit
def fetch_rows(start, stride, size: tl.constexpr, rows: tl.constexpr, count):
    """Fetch ``size`` bytes of each of ``rows`` that lie ``stride`` bytes apart; ``count`` exist.

    ``size`` is a multiple of :data:`PIECE`, ``start`` of 16. Nobody waits for it.
    """
    pieces: tl.constexpr = size // PIECE
    for first in tl.static_range(0, rows * pieces, LANES):
        request = first + tl.arange(0, LANES)
        row = tl.minimum(request // pieces, count - 1)
        tl.inline_asm_elementwise(
            "cp.async.bulk.prefetch.L2.global [$1], 256; mov.u32 $0, 0;",
            "=r,l",
            [start.to(tl.int64) + row.to(tl.int64) * stride + request % pieces * PIECE],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
