"""Memory on a device, and its likes on the host, in which what it will hold next is written."""

from __future__ import annotations

import torch

# A step sends at most twice, and is read before the one after the next is launched: so whatever is
# written to has long been copied.
COPIES = 4


class Mirror:
    """``device``: memory of ``shape`` there, zeros at first, which never moves.

    :meth:`turn` gives memory of the same shape on the host to write to, and :meth:`send` copies it,
    behind whatever is queued on the device.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        is_pinned = device.type == "cuda"
        self.hosts = [torch.zeros(shape, dtype=dtype, pin_memory=is_pinned) for _ in range(COPIES)]
        self.latest = 0  # whose turn it is, of the hosts
        self.device = torch.zeros(shape, dtype=dtype, device=device)

    def turn(self) -> torch.Tensor:
        """What to write to next, with what was once sent from there in it."""
        self.latest = (self.latest + 1) % COPIES
        return self.hosts[self.latest]

    def send(self, count: int) -> None:
        """Copy the first ``count`` of what the latest :meth:`turn` gave."""
        self.device[:count].copy_(self.hosts[self.latest][:count], non_blocking=True)
