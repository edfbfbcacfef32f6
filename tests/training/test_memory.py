"""How much memory there is for a training."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from training.memory import memory_left


def test_what_torch_keeps_unused_is_left_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 bytes of a GPU 40 are nobody's; torch holds 30 and uses 25 of them."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (40, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 25)

    assert memory_left(torch.device("cuda")) == 45


@pytest.mark.parametrize(("granted", "left"), [(None, 70), (90, 70), (50, 50)])
def test_a_container_may_have_less_than_its_machine(
    monkeypatch: pytest.MonkeyPatch, granted: int | None, left: int
) -> None:
    """Without a GPU the least counts: what the machine could give, or what a limit leaves."""
    found = SimpleNamespace(available=70)
    monkeypatch.setattr("training.memory.psutil.virtual_memory", lambda: found)
    monkeypatch.setattr("training.memory.memory_left_of_container", lambda: granted)

    assert memory_left(torch.device("cpu")) == left
