"""Memory that is written on the host and read on the device."""

from __future__ import annotations

import torch

from server.engine.cuda.mirror import COPIES, Mirror


def test_what_is_sent_is_not_written_to_before_it_can_have_been_copied(
    device: torch.device,
) -> None:
    """Every turn has memory of its own, until as many have come as may be under way."""
    mirror = Mirror((4, 2), torch.int32, device)
    where = mirror.device.data_ptr()
    for turn in range(COPIES):
        host = mirror.turn()
        assert not host.any()
        host.fill_(turn + 1)
        mirror.send(3)
        assert mirror.device.tolist() == [[turn + 1] * 2] * 3 + [[0, 0]]
    assert mirror.turn().tolist() == [[1, 1]] * 4
    assert mirror.device.data_ptr() == where
