"""Optimisers and schedules by name."""

from __future__ import annotations

import pytest
import torch

from training.optimizer import learning_rate, make_optimizer
from training.recipe import Training


@pytest.mark.parametrize("name", ["paged_adamw_32bit", "adamw_8bit", "adamw"])
def test_every_optimizer_steps_on_this_machine(name: str) -> None:
    """Each name gives an optimiser that lowers a loss, also without a GPU."""
    weight = torch.nn.Parameter(torch.ones(64, 128))
    training = Training(optimizer=name, learning_rate=0.1)  # type: ignore[arg-type]
    optimizer = make_optimizer([weight], training)

    for _ in range(3):
        weight.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    assert weight.abs().max().item() < 0.9


def test_the_paged_optimizer_is_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bitsandbytes' 32-bit AdamW takes the steps of torch's."""
    torch.manual_seed(0)
    start = torch.randn(64, 64)
    ends = []
    for name in ("paged_adamw_32bit", "adamw"):
        weight = torch.nn.Parameter(start.clone())
        training = Training(optimizer=name, learning_rate=0.01)  # type: ignore[arg-type]
        optimizer = make_optimizer([weight], training)
        for _ in range(5):
            weight.pow(3).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(weight.detach())

    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)


def test_schedules() -> None:
    """Constant stays, linear and cosine end at zero, warm-up rises to the rate."""
    rates = {
        name: [
            learning_rate(Training(scheduler=name, learning_rate=1.0), step, 4)  # type: ignore[arg-type]
            for step in range(5)
        ]
        for name in ("constant", "linear", "cosine")
    }
    warming = Training(warmup_steps=4, learning_rate=1.0)

    assert rates["constant"] == [1.0] * 5
    assert rates["linear"] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert rates["cosine"] == pytest.approx([1.0, 0.8535534, 0.5, 0.1464466, 0.0])
    assert [learning_rate(warming, step, 100) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
