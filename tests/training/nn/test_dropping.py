"""What dropout keeps: all but the asked share, independent, and reproducible."""

from __future__ import annotations

import pytest
import torch

from training.nn.dropping import kept_positions

CPU = torch.device("cpu")


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.9, 0.99999])
def test_the_share_is_met_everywhere(share: float) -> None:
    """Also in each of the four positions that a draw serves."""
    torch.manual_seed(0)
    dropped = ~kept_positions((1000, 1000), share, CPU)

    assert dropped.dtype is torch.bool
    deviation = (share * (1 - share) / 250_000) ** 0.5
    for place in range(4):
        assert dropped.flatten()[place::4].float().mean().item() == pytest.approx(
            share, abs=5 * deviation + 1 / 2**16
        )


def test_neighbours_are_independent() -> None:
    """Two positions of one draw are dropped together as often as chance has it."""
    torch.manual_seed(0)
    dropped = ~kept_positions((1_000_000,), 0.3, CPU).view(-1, 4)

    for one in range(4):
        for other in range(one):
            both = (dropped[:, one] & dropped[:, other]).float().mean().item()
            assert both == pytest.approx(0.09, abs=0.003)


def test_torchs_seed_decides_and_the_shape_may_be_any() -> None:
    """Equal after equal seeds, and another choice with the next call."""
    torch.manual_seed(7)
    first, second = (kept_positions((3, 5), 0.5, CPU) for _ in range(2))
    torch.manual_seed(7)

    assert torch.equal(kept_positions((3, 5), 0.5, CPU), first)
    assert first.shape == (3, 5)
    assert not torch.equal(first, second)
