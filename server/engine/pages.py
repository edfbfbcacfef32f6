"""Memory for what every step reads from end to end, in huge pages where the system has them.

With pages of 4 KiB a processor looks up an address for every sixty-four lines that it reads, in a
virtual machine in two tables.

Source: Linux, Documentation/admin-guide/mm/transhuge.rst.
"""

from __future__ import annotations

import contextlib
import mmap
import sys

import torch

HUGE_PAGE = 2 << 20
LINE = 64
# Address space of one request to the system. What nobody writes to takes no memory.
CHUNK = 256 << 20


class Pages:
    """Hands out pieces of memory, which live as long as what was made of them.

    ``size``: how many bytes will be asked for, where that is known.
    """

    def __init__(self, size: int = CHUNK) -> None:
        self._size = size
        self._free = torch.empty(0, dtype=torch.uint8)

    def take(self, size: int) -> torch.Tensor:
        """[size] uint8 that nobody else has, at a multiple of 64 bytes; it may hold anything.

        Raises:
            MemoryError: there is none left.
        """
        room = -(-size // LINE) * LINE
        if room > len(self._free):
            self._free = huge_pages(max(room, self._size))
        piece, self._free = self._free[:size], self._free[room:]
        return piece


def huge_pages(size: int) -> torch.Tensor:
    """[size] uint8, from the beginning of a huge page on if there are any.

    Raises:
        MemoryError: there is none left.
    """
    if sys.platform != "linux" or size < HUGE_PAGE:
        return torch.empty(size, dtype=torch.uint8)
    try:
        mapped = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no memory left for {size >> 20} MiB of weights") from error
    whole = torch.frombuffer(mapped, dtype=torch.uint8)
    begin = -whole.data_ptr() % HUGE_PAGE
    with contextlib.suppress(OSError):  # a kernel without them
        # Whole ones alone: the last would be there in full however little of it is asked for.
        mapped.madvise(mmap.MADV_HUGEPAGE, begin, size // HUGE_PAGE * HUGE_PAGE)
    return whole[begin : begin + size]
