"""RMS norms by torch's own operation."""

from __future__ import annotations

import pytest
import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from training.nn import norms
from training.nn.norms import fuse_norms


def a_norm(dtype: torch.dtype) -> tuple[Qwen3RMSNorm, torch.Tensor]:
    """One with weights, and rows for it."""
    torch.manual_seed(0)
    norm = Qwen3RMSNorm(16, eps=1e-3).to(dtype)
    torch.nn.init.normal_(norm.weight)
    return norm.requires_grad_(False), torch.randn(2, 5, 16, dtype=dtype).requires_grad_()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-7)])
def test_it_is_transformers_norm(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, tolerance: float
) -> None:
    """Result and gradient, with its epsilon, up to rounding."""
    norm, rows = a_norm(dtype)
    wanted = norm(rows)
    given = torch.randn_like(wanted)
    (theirs,) = torch.autograd.grad(wanted, rows, given)

    monkeypatch.setattr(norms, "is_possible", lambda *_: True)
    assert fuse_norms(torch.nn.Sequential(norm)) == 1
    found = norm(rows)
    (ours,) = torch.autograd.grad(found, rows, given)

    assert found.dtype is dtype
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours, theirs, rtol=4 * tolerance, atol=4 * tolerance)


def test_on_a_cpu_no_bit_changes() -> None:
    """Transformers' own formula is kept there, and where the weight has another format."""
    norm, rows = a_norm(torch.bfloat16)
    wanted = norm(rows)

    fuse_norms(norm)

    assert torch.equal(norm(rows), wanted)
    assert not norms.is_possible(torch.ones(1, device="meta"), norm.weight)


def test_norms_of_another_formula_stay() -> None:
    """Gemma's multiplies with one more than the weight."""
    assert fuse_norms(torch.nn.Sequential(GemmaRMSNorm(16), torch.nn.LayerNorm(16))) == 0
