"""Packed weights and their products, through the compiled library as the decoder uses it."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from hypothesis import given, settings
from hypothesis import strategies as st

from server.engine.native.build import library
from server.engine.native.pack import PackedLinear, interleaved, pack
from server.engine.native.structs import declare
from server.engine.quantised import Int8Linear
from tests.server.engine.native.processors import Processor

pytestmark = pytest.mark.skipif(library() is None, reason="needs a C compiler")

FORMATS = ("fp32", "bf16", "int8", "nf4", "int7")
# Relative error of a product of normal numbers, about twice what was measured.
ERRORS = {"fp32": 3e-6, "bf16": 4e-3, "int8": 2e-2, "nf4": 0.16, "int7": 0.03}


@pytest.fixture(scope="module")
def kernels() -> ctypes.CDLL:
    loaded = library()
    assert loaded is not None
    declare(loaded)
    return loaded


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def multiply(kernels: ctypes.CDLL, linear: PackedLinear, x: torch.Tensor) -> torch.Tensor:
    y = torch.full((len(x), linear.outputs), 1e9)
    assert kernels.lccc_multiply(linear.struct(), x.data_ptr(), len(x), y.data_ptr()) == 0
    return y


@pytest.mark.parametrize("weight_format", FORMATS)
@given(
    outputs=st.integers(1, 70),
    inputs=st.integers(1, 140),
    rows=st.integers(1, 15),
    has_bias=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_products_are_right_and_rows_do_not_know_of_each_other(
    kernels: ctypes.CDLL, weight_format: str, outputs: int, inputs: int, rows: int, has_bias: bool
) -> None:
    """Any shape, whole panels or not: as in fp64 up to the format's error, bit for bit as alone."""
    weight, x = normal(outputs, inputs), normal(rows, inputs, seed=1)
    bias = normal(outputs, seed=2) if has_bias else None
    linear = pack(kernels, weight, bias, weight_format)
    y = multiply(kernels, linear, x)
    offset = torch.zeros(outputs) if bias is None else bias
    exact = x.double() @ weight.double().T + offset
    scale = x.norm(dim=1, keepdim=True) * weight.norm(dim=1) + offset.abs()
    assert ((y - exact).abs() / scale).max() < ERRORS[weight_format]
    alone = [multiply(kernels, linear, row.unsqueeze(0).contiguous()) for row in x]
    assert torch.equal(torch.cat(alone), y)


@pytest.mark.parametrize("weight_format", FORMATS)
def test_every_processor_computes_the_same_bits(
    kernels: ctypes.CDLL, lesser: Processor, weight_format: str
) -> None:
    """With tiles of bytes, sixteen lanes or eight: few rows and many, whole blocks and not."""
    for outputs, inputs in ((48, 64), (70, 200), (16, 1100)):
        weight = normal(outputs, inputs)
        for rows in (1, 3, 7, 8, 15, 16, 17, 50):
            x = normal(rows, inputs, seed=rows)
            ours = multiply(kernels, pack(kernels, weight, None, weight_format), x)
            with lesser as theirs:
                found = multiply(theirs, pack(theirs, weight, None, weight_format), x)
            assert torch.equal(found, ours)


def test_bf16_weights_are_multiplied_in_fp32(kernels: ctypes.CDLL) -> None:
    """Half the bytes of an fp32 weight, and the very same results where nothing was rounded."""
    weight, x = normal(48, 96).bfloat16(), normal(3, 96, seed=1)
    half, whole = (pack(kernels, weight, None, weight_format) for weight_format in ("bf16", "fp32"))
    assert 2 * half.nbytes == whole.nbytes
    assert torch.equal(multiply(kernels, half, x), multiply(kernels, whole, x))


def test_int8_is_exactly_the_torch_path(kernels: ctypes.CDLL) -> None:
    """Codes, scales and whole-number sums are the same, so the two differ in no bit."""
    weight, x = normal(64, 300), normal(7, 300, seed=1)
    x[3] = 0
    x[4] *= 1e30
    x[5, 7] = 4000.0
    ours = multiply(kernels, pack(kernels, weight, None, "int8"), x)
    assert torch.equal(ours, Int8Linear.of(weight, None)(x))


def test_nf4_codes_are_those_of_bitsandbytes(kernels: ctypes.CDLL) -> None:
    """With one input at a time, a product shows the weight: bitsandbytes', but for the unit."""
    weight = normal(32, 128) * torch.logspace(-3, 3, 32).unsqueeze(1)
    weight[5, 64:] = 0
    codes, state = quantize_4bit(weight, blocksize=64, quant_type="nf4")
    theirs = dequantize_4bit(codes, state)
    ours = multiply(kernels, pack(kernels, weight, None, "nf4"), torch.eye(128)).T
    most = weight.unflatten(1, (2, 64)).abs().amax(dim=2).repeat_interleave(64, dim=1)
    assert ((ours - theirs).abs() <= most * (0.5 / 32.38 + 1e-6)).all()


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_no_number_stays_in_its_row(
    kernels: ctypes.CDLL, weight_format: str, poison: float
) -> None:
    """A row with an overflow comes out as none, and its neighbours as if it were not there."""
    weight, x = normal(40, 130), normal(5, 130, seed=1)
    linear = pack(kernels, weight, None, weight_format)
    clean = multiply(kernels, linear, x)
    x[2, 129] = poison
    y = multiply(kernels, linear, x)
    assert not y[2].isfinite().all()
    others = [0, 1, 3, 4]
    assert torch.equal(y[others], clean[others])


def test_large_inputs_do_not_overflow_the_sums(kernels: ctypes.CDLL) -> None:
    """All at their largest magnitude over a wide layer: 32 bits are enough by construction."""
    weight, x = torch.full((16, 20_000), -3.0), torch.full((1, 20_000), 7.0)
    for weight_format in ("int8", "nf4", "int7"):
        y = multiply(kernels, pack(kernels, weight, None, weight_format), x)
        torch.testing.assert_close(y, x @ weight.T, rtol=0.02, atol=0)


def test_gates_and_ups_share_a_panel() -> None:
    """Eight of one, then eight of the other, each filled up with zeros at the end."""
    gate, up = torch.arange(1, 11).unsqueeze(1), torch.arange(101, 111).unsqueeze(1)
    rows = interleaved(gate, up).flatten().tolist()
    first = [*range(1, 9), *range(101, 109)]
    assert rows == [*first, 9, 10, *[0] * 6, 109, 110, *[0] * 6]


def test_a_checkpoint_of_zeros_is_packed(kernels: ctypes.CDLL, tmp_path: Path) -> None:
    """No scale is no number: everything times zero is zero."""
    for weight_format in FORMATS:
        linear = pack(kernels, torch.zeros(20, 70), None, weight_format)
        assert torch.equal(multiply(kernels, linear, normal(3, 70)), torch.zeros(3, 20))
