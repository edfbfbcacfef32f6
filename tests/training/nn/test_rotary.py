"""Rotary positions by few operations."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from transformers.models.qwen3 import modeling_qwen3

from adapters.base import Base
from tests.training.conftest import MakePlan
from training.nn import rotary
from training.nn.model import load_model, target_logits
from training.nn.packing import pack
from training.nn.rotary import fuse_rotary

CPU = torch.device("cpu")
of_transformers = modeling_qwen3.apply_rotary_pos_emb


@pytest.fixture(autouse=True)
def put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with transformers' own function, and leave what was there."""
    original = getattr(of_transformers, "args", [of_transformers])[0]
    monkeypatch.setattr(modeling_qwen3, "apply_rotary_pos_emb", original)


def model(base: Base, make_plan: MakePlan) -> tuple[Any, Any]:
    """A model and a pack for it."""
    plan = make_plan("quantization.kind=none")
    torch.manual_seed(0)
    return load_model(base, plan.recipe, CPU).eval(), pack(plan.step_examples(0))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-6)])
def test_it_is_transformers_rotation(
    monkeypatch: pytest.MonkeyPatch,
    base: Base,
    make_plan: MakePlan,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    """Queries, keys and their gradients, also where positions restart, up to rounding."""
    monkeypatch.setattr(rotary, "is_possible", lambda *_: True)
    original = modeling_qwen3.apply_rotary_pos_emb
    decoder = model(base, make_plan)[0].get_base_model().model
    ours = modeling_qwen3.apply_rotary_pos_emb
    assert ours is not original
    torch.manual_seed(0)
    query, key = (
        torch.randn(1, 9, heads, 16, dtype=dtype).transpose(1, 2).requires_grad_()
        for heads in (4, 2)
    )
    places = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 700, 30_000]])
    cos, sin = decoder.rotary_emb(query, places)
    cos, sin = cos[..., :16], sin[..., :16]

    found, wanted = ours(query, key, cos, sin), original(query, key, cos, sin)

    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)
    given = [torch.randn_like(one) for one in wanted]
    gradients = (torch.autograd.grad(one, (query, key), given) for one in (found, wanted))
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


def test_a_models_logits_are_the_same(
    monkeypatch: pytest.MonkeyPatch, base: Base, make_plan: MakePlan
) -> None:
    """On a CPU bit by bit, since it is transformers' formula there; by this one, nearly."""
    monkeypatch.setattr("training.nn.model.fuse_rotary", lambda _: False)
    loaded, one = model(base, make_plan)
    core = loaded.get_base_model()
    with torch.no_grad():
        wanted = target_logits(loaded, one)
        assert not isinstance(modeling_qwen3.apply_rotary_pos_emb, partial)
        assert fuse_rotary(core)
        assert fuse_rotary(core)  # a second model of the family changes nothing
        on_cpu = target_logits(loaded, one)
        monkeypatch.setattr(rotary, "is_possible", lambda *_: True)
        found = target_logits(loaded, one)

    assert torch.equal(on_cpu, wanted)
    assert not torch.equal(found, wanted)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_other_families_stay() -> None:
    """What is not known to turn in this way is left alone."""
    assert not fuse_rotary(torch.nn.Linear(2, 2))
