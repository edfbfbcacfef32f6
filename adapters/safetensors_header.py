"""The header of a safetensors file, read with bounds before a byte of a tensor is trusted.

It knows the format (https://github.com/huggingface/safetensors#format), not what a LoRA is.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, BinaryIO

import msgspec

from adapters.strict_json import read_object

HEADER_LIMIT = 1 << 20  # bytes; a LoRA over all projections of 80 layers needs 160 kB
TENSOR_LIMIT = 10_000
_TYPES_BY_SIZE = {
    1: ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"),
    2: ("U16", "I16", "F16", "BF16"),
    4: ("U32", "I32", "F32"),
    8: ("U64", "I64", "F64"),
}
ITEM_SIZES = {dtype: size for size, dtypes in _TYPES_BY_SIZE.items() for dtype in dtypes}  # bytes

_Natural = Annotated[int, msgspec.Meta(ge=0)]
_Shape = Annotated[tuple[_Natural, ...], msgspec.Meta(max_length=8)]


class TensorInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor: ``data_offsets`` are (begin, end) in bytes from the end of the header."""

    dtype: str
    shape: _Shape
    data_offsets: tuple[_Natural, _Natural]


class Header(msgspec.Struct, frozen=True):
    """The tensors by name, in the order of their bytes; those begin at ``data_start``."""

    tensors: dict[str, TensorInfo]
    data_start: int


def read_header(file: BinaryIO, size: int) -> Header:
    """Read the header of ``file``, which has ``size`` bytes.

    Raises:
        ValueError: the file is no safetensors file, or its tensors do not fill it exactly.
    """
    prefix = file.read(8)
    if len(prefix) < 8:  # noqa: PLR2004 - the format's own constant: an unsigned 64-bit length
        raise ValueError(f"has only {len(prefix)} bytes, which is no safetensors file")
    length = int.from_bytes(prefix, "little")
    if length > HEADER_LIMIT:
        raise ValueError(
            f"declares a header of {length:,} bytes; at most {HEADER_LIMIT:,} are read"
        )
    if len(prefix) + length > size:
        raise ValueError(f"is truncated: its header needs {length:,} bytes")
    tensors = _tensors(read_object(file.read(length)))
    _check_layout(tensors, size - len(prefix) - length)
    return Header(tensors, len(prefix) + length)


def _tensors(entries: dict[str, Any]) -> dict[str, TensorInfo]:
    entries.pop("__metadata__", None)
    if len(entries) > TENSOR_LIMIT:
        raise ValueError(f"declares {len(entries):,} tensors; at most {TENSOR_LIMIT:,} are read")
    found = []
    for name, entry in entries.items():
        try:
            found.append((name, msgspec.convert(entry, TensorInfo)))
        except msgspec.ValidationError as error:
            raise ValueError(f"describes tensor {name[:200]!r} wrongly: {error}") from None
    return dict(sorted(found, key=lambda item: item[1].data_offsets))


def _check_layout(tensors: dict[str, TensorInfo], data_size: int) -> None:
    """Tensors must follow each other without gap or overlap, from the first byte to the last."""
    position = 0
    for name, tensor in tensors.items():
        begin, end = tensor.data_offsets
        if begin != position:
            what = "overlaps the one before" if begin < position else "leaves a gap before it"
            raise ValueError(f"tensor {name[:200]!r} {what}")
        if tensor.dtype not in ITEM_SIZES:
            raise ValueError(f"tensor {name[:200]!r} has the unknown dtype {tensor.dtype[:40]!r}")
        if end - begin != math.prod(tensor.shape) * ITEM_SIZES[tensor.dtype]:
            raise ValueError(f"tensor {name[:200]!r} has a shape that does not fit its bytes")
        position = end
    if position != data_size:
        held = f"{data_size:,} bytes of tensors"
        raise ValueError(f"is truncated or padded: it holds {held}, its header says {position:,}")
