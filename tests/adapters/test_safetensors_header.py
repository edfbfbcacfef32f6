"""Headers of safetensors files: what is read, what is refused, and that nothing costs much."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from adapters.safetensors_header import Header, TensorInfo, read_header


def tensor(begin: int, end: int, dtype: str = "F32", shape: Any = None) -> dict[str, Any]:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def file_of(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (length or len(encoded)).to_bytes(8, "little") + encoded + data


def read(data: bytes) -> Header:
    return read_header(io.BytesIO(data), len(data))


def test_a_real_file_is_read():
    """The tensors of a file that the safetensors library wrote, in the order of their bytes."""
    tensors = {"b": torch.ones(2, 3), "a": torch.zeros(4, dtype=torch.bfloat16)}
    data = save(tensors, metadata={"format": "pt"})
    header = read(data)
    assert header.tensors == {
        "b": TensorInfo("F32", (2, 3), (0, 24)),
        "a": TensorInfo("BF16", (4,), (24, 32)),
    }
    assert data[header.data_start :][:4] == b"\x00\x00\x80\x3f"


def test_a_file_without_tensors_is_read():
    """That none are there is for others to refuse."""
    assert read(save({})).tensors == {}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "has only 0 bytes, which is no safetensors file"),
        (b"1234567", "has only 7 bytes, which is no safetensors file"),
        (b"\x80\x02}q\x00.junk", "declares a header of"),  # a pickle
        (file_of({}, length=1 << 63), "declares a header of 9,223,372,036,854,775,808 bytes; at"),
        (file_of({}, length=(1 << 20) + 1), "declares a header of 1,048,577 bytes; at most"),
        (file_of({}, length=100), "is truncated: its header needs 100 bytes"),
        (file_of(b"{"), "is not valid JSON"),
        (file_of(b"\xff\xff"), "is not UTF-8"),
        (file_of(b'{"a":' * 50_000), "is nested too deeply"),
        (file_of([]), "should hold a JSON object"),
        (file_of(b'{"a": 1, "a": 2}'), "has the key 'a' twice"),
        (file_of({"a": 1}), "describes tensor 'a' wrongly: Expected `object`, got `int`"),
        (file_of({"a": {"dtype": "F32"}}), "describes tensor 'a' wrongly: Object missing"),
        (file_of({"a": tensor(0, 4) | {"x": 1}}, b"1234"), "describes tensor 'a' wrongly: Object"),
        (file_of({"a": tensor(0, 4, shape=[-1])}, b"1234"), "describes tensor 'a' wrongly"),
        (file_of({"a": tensor(0, 4, shape=[1.0])}, b"1234"), "describes tensor 'a' wrongly"),
        (file_of({"a": tensor(0, 4, shape=[1] * 9)}, b"1234"), "describes tensor 'a' wrongly"),
        (file_of({"a": tensor(4, 8)}, b"12345678"), "tensor 'a' leaves a gap before it"),
        (
            file_of({"a": tensor(0, 8), "b": tensor(4, 8)}, b"12345678"),
            "tensor 'b' overlaps the one before",
        ),
        (file_of({"a": tensor(4, 0, shape=[1])}, b"1234"), "tensor 'a' leaves a gap before it"),
        (file_of({"a": tensor(0, 4, "F32", [2])}, b"1234"), "tensor 'a' has a shape that does not"),
        (file_of({"a": tensor(0, 4, "F4")}, b"1234"), "tensor 'a' has the unknown dtype 'F4'"),
        (
            file_of({"a": tensor(0, 0, "F32", [0, 1 << 40])}, b"1"),
            "is truncated or padded: it holds 1 bytes of tensors, its header says 0",
        ),
        (
            file_of({"a": tensor(0, 1 << 40)}, b"1234"),
            "is truncated or padded: it holds 4 bytes of tensors, its header says 1,09",
        ),
        (
            file_of(
                {
                    f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
                    for i in range(10_001)
                }
            ),
            "declares 10,001 tensors; at most 10,000 are read",
        ),
    ],
    ids=range(25),
)
def test_a_bad_header_is_refused(data: bytes, problem: str):
    """The reason says what is wrong and with which tensor."""
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}"):
        read(data)


@given(st.binary(max_size=200) | st.builds(file_of, st.binary(max_size=200), st.binary()))
def test_no_bytes_raise_anything_else(data: bytes):
    """Arbitrary bytes give a header or a ValueError."""
    try:
        header = read(data)
    except ValueError:
        return
    assert all(info.data_offsets[1] <= len(data) for info in header.tensors.values())
