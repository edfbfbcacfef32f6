"""Tables of records that are written on the host, a step at a time, and read on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# A step sends a table twice at most, and is read before the one after the next is launched: so
# whatever is written to has long been copied.
COPIES = 4

_TYPES = {"i4": torch.int32, "i8": torch.int64, "f8": torch.float64}


class Records:
    """``rows`` records of ``fields`` (name, type, numbers each), always at the same address.

    Types are NumPy's ``i4``, ``i8`` and ``f8``; fields of eight bytes come first, so that all are
    aligned. A field of one number is a scalar.

    :meth:`blank` (or :meth:`again`) gives records to fill, and :meth:`send` copies them to the
    device, behind whatever is queued there.
    """

    def __init__(self, fields: list[tuple[str, str, int]], rows: int, device: torch.device) -> None:
        self._dtype = np.dtype(
            [(name, kind) if size == 1 else (name, kind, (size,)) for name, kind, size in fields]
        )
        odd = self._dtype.itemsize % 8
        if odd:
            self._dtype = np.dtype([*self._dtype.descr, ("padding", "u1", (8 - odd,))])
        shape = rows, self._dtype.itemsize
        is_pinned = device.type == "cuda"
        self._hosts = [
            torch.zeros(shape, dtype=torch.uint8, pin_memory=is_pinned) for _ in range(COPIES)
        ]
        self._arrays = [host.numpy().view(self._dtype)[:, 0] for host in self._hosts]
        self._turn = 0
        self._device = torch.zeros(shape, dtype=torch.uint8, device=device)

    def blank(self) -> NDArray[Any]:
        """The records to send next: [rows], with what was once sent in them."""
        self._turn = (self._turn + 1) % COPIES
        return self.latest()

    def latest(self) -> NDArray[Any]:
        """The latest :meth:`blank`."""
        return self._arrays[self._turn]

    def again(self, count: int) -> NDArray[Any]:
        """A new :meth:`blank`, of which the first ``count`` are as in the latest."""
        before = self._hosts[self._turn]
        records = self.blank()
        self._hosts[self._turn][:count].copy_(before[:count])  # bytes: records take far longer
        return records

    def send(self, count: int) -> None:
        """Copy the first ``count`` of the latest :meth:`blank`."""
        self._device[:count].copy_(self._hosts[self._turn][:count], non_blocking=True)

    def column(self, name: str) -> torch.Tensor:
        """A field of all records on the device: [rows, numbers each], [rows] for a single one."""
        kind, start = self._dtype.fields[name][:2]  # type: ignore[index] # it has fields
        part = self._device[:, start : start + kind.itemsize].view(_TYPES[kind.base.str[1:]])
        return part[:, 0] if part.shape[1] == 1 else part
