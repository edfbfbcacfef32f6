"""Tables of records that are written on the host, a step at a time, and read on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from server.engine.cuda.mirror import Mirror

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
        self._mirror = Mirror((rows, self._dtype.itemsize), torch.uint8, device)
        self._arrays = [host.numpy().view(self._dtype)[:, 0] for host in self._mirror.hosts]

    def blank(self) -> NDArray[Any]:
        """The records to send next: [rows], with what was once sent in them."""
        self._mirror.turn()
        return self.latest()

    def latest(self) -> NDArray[Any]:
        """The latest :meth:`blank`."""
        return self._arrays[self._mirror.latest]

    def again(self, count: int) -> NDArray[Any]:
        """A new :meth:`blank`, of which the first ``count`` are as in the latest."""
        before = self._mirror.hosts[self._mirror.latest]
        self._mirror.turn()[:count].copy_(before[:count])  # bytes: records take far longer
        return self.latest()

    def send(self, count: int) -> None:
        """Copy the first ``count`` of the latest :meth:`blank`."""
        self._mirror.send(count)

    def column(self, name: str) -> torch.Tensor:
        """A field of all records on the device: [rows, numbers each], [rows] for a single one."""
        kind, start = self._dtype.fields[name][:2]  # type: ignore[index] # it has fields
        part = self._mirror.device[:, start : start + kind.itemsize]
        part = part.view(_TYPES[kind.base.str[1:]])
        return part[:, 0] if part.shape[1] == 1 else part
