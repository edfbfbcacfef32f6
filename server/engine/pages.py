"""Memory for what every step reads from end to end, in huge pages where the system has them.

With pages of 4 KiB a processor looks up an address for every sixty-four lines that it reads, in a
virtual machine in two tables.

Source: Linux, Documentation/admin-guide/mm/transhuge.rst.
"""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

import torch

HUGE_PAGE = 2 << 20
# How large they really are: 512 MiB beside ordinary ones of 64 KiB, which is too much to give away.
SIZE_FILE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
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


def spread(count: int, size: int) -> list[torch.Tensor]:
    """``count`` times [size] uint8, which reach their next huge pages one after the other.

    What grows in all of them alike, as keys and values of all layers do, would wait for so many
    pages at once.

    Raises:
        MemoryError: there is none left.
    """
    apart = HUGE_PAGE // count // LINE * LINE
    room = size + (apart - size) % HUGE_PAGE if size >= HUGE_PAGE else size
    pages = Pages(count * -(-room // LINE) * LINE)
    return [pages.take(room)[:size] for _ in range(count)]


def has_huge_pages() -> bool:
    """Whether the system has some of the usual size."""
    try:
        return int(SIZE_FILE.read_text()) == HUGE_PAGE
    except (OSError, ValueError):
        return False


def huge_pages(size: int) -> torch.Tensor:
    """[size] uint8, from the beginning of a huge page on if there are any.

    Raises:
        MemoryError: there is none left.
        RuntimeError: likewise, where torch is asked.
    """
    if size < HUGE_PAGE or not has_huge_pages():
        return torch.empty(size, dtype=torch.uint8)
    try:
        mapped = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no memory left for {size >> 20} MiB") from error
    whole = torch.frombuffer(mapped, dtype=torch.uint8)
    begin = -whole.data_ptr() % HUGE_PAGE
    with contextlib.suppress(OSError):  # a kernel without them
        # Whole ones alone: the last would be there in full however little of it is asked for.
        mapped.madvise(mmap.MADV_HUGEPAGE, begin, size // HUGE_PAGE * HUGE_PAGE)
    return whole[begin : begin + size]
