"""Quantised linear layers in torch: any shape, in shapes that GPUs multiply."""

from __future__ import annotations

import pytest
import torch

from server.engine.quantised import WEIGHT_LIMIT, Int8Linear, quantised_rows

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rows", [1, 33])
@pytest.mark.parametrize(("outputs", "inputs"), [(259, 64), (16, 72), (30, 50)])
def test_int8_takes_any_vocabulary_and_any_width(
    outputs: int, inputs: int, rows: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's integer product wants multiples of eight; what is added for it changes no sum."""
    torch.manual_seed(0)
    weight, bias = torch.randn(outputs, inputs, device=device), torch.randn(outputs, device=device)
    x = torch.randn(rows, inputs, device=device)
    plain = torch._int_mm

    def as_on_a_gpu(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        assert one.shape[1] % 8 == 0
        assert other.shape[1] % 8 == 0
        return plain(one, other)

    monkeypatch.setattr(torch, "_int_mm", as_on_a_gpu)
    found = Int8Linear.of(weight, bias)(x)

    scales = weight.abs().amax(dim=1) / WEIGHT_LIMIT
    codes = (weight / scales[:, None]).round()
    whole, row_scales = quantised_rows(x)
    sums = whole.double() @ codes.double().T
    torch.testing.assert_close(found, (sums * scales * row_scales).float() + bias)
