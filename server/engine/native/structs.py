"""The C structures of ``decoder.c`` as ctypes sees them, field by field."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_double, c_float, c_int32, c_void_p

FORMATS = {"fp32": 0, "bf16": 1, "int8": 2, "nf4": 3, "int7": 4}
TIMES = ("linears", "attention", "adapters", "elementwise", "head")
PANEL = 16
HALF_PANEL = 8
MAX_HEAD_DIM = 256
LANES = 8
# What products are computed with, by the number that ``lccc_instructions`` gives.
INSTRUCTIONS = ("what the compiler makes of it", "AVX2", "AVX-512 VNNI", "AVX-512 VNNI and AMX")


class LinearStruct(Structure):
    """``linear_t``."""

    _fields_ = [
        ("format", c_int32),
        ("outputs", c_int32),
        ("inputs", c_int32),
        ("panels", c_int32),
        ("codes", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
    ]


class LayerStruct(Structure):
    """``layer_t``."""

    _fields_ = [
        ("input_norm", c_void_p),
        ("qk_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("qkv", LinearStruct),
        ("output", LinearStruct),
        ("gate_up", LinearStruct),
        ("down", LinearStruct),
    ]


class ModelStruct(Structure):
    """``model_t``."""

    _fields_ = [
        ("layers", c_int32),
        ("hidden", c_int32),
        ("intermediate", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("vocabulary", c_int32),
        ("embedding_format", c_int32),
        ("epsilon", c_float),
        ("query_scale", c_float),
        ("embedding", c_void_p),
        ("cosines", c_void_p),
        ("sines", c_void_p),
        ("norm", c_void_p),
        ("head", LinearStruct),
        ("layer", POINTER(LayerStruct)),
    ]


class FactorsStruct(Structure):
    """``factors_t``."""

    _fields_ = [("shrink", c_void_p), ("expand", c_void_p), ("scales", c_void_p)]


class AdapterStruct(Structure):
    """``adapter_t``."""

    _fields_ = [
        ("rank", c_int32),
        ("format", c_int32),
        ("factors", POINTER(FactorsStruct)),
    ]


class StepStruct(Structure):
    """``step_t``."""

    _fields_ = [
        ("tokens", c_int32),
        ("chunks", c_int32),
        ("table_width", c_int32),
        ("sampled", c_int32),
        ("adapters", c_int32),
        ("threads", c_int32),
        ("is_kv_bf16", c_int32),
        ("token", c_void_p),
        ("position", c_void_p),
        ("place", c_void_p),
        ("begin", c_void_p),
        ("count", c_void_p),
        ("past", c_void_p),
        ("table", c_void_p),
        ("sample", c_void_p),
        ("adapter", POINTER(AdapterStruct)),
        ("adapter_start", c_void_p),
        ("adapter_row", c_void_p),
        ("keys", POINTER(c_void_p)),
        ("values", POINTER(c_void_p)),
        ("logits", c_void_p),
        ("workspace", c_void_p),
        ("seconds", POINTER(c_double)),
    ]


def declare(library: ctypes.CDLL) -> None:
    """Tell ctypes the types of the functions."""
    library.lccc_packed_bytes.argtypes = [c_int32, c_int32, c_int32]
    library.lccc_packed_bytes.restype = ctypes.c_int64
    library.lccc_pack.argtypes = [
        c_int32,
        c_void_p,
        c_int32,
        c_int32,
        c_int32,
        c_void_p,
        c_void_p,
        c_int32,
    ]
    library.lccc_pack.restype = c_int32
    library.lccc_workspace_bytes.argtypes = [POINTER(ModelStruct), POINTER(StepStruct)]
    library.lccc_workspace_bytes.restype = ctypes.c_int64
    library.lccc_forward.argtypes = [POINTER(ModelStruct), POINTER(StepStruct)]
    library.lccc_forward.restype = None
    library.lccc_multiply.argtypes = [POINTER(LinearStruct), c_void_p, c_int32, c_void_p]
    library.lccc_multiply.restype = ctypes.c_int32
    library.lccc_instructions.argtypes = []
    library.lccc_instructions.restype = c_int32
    library.lccc_use_tiles.argtypes = [c_int32]
    library.lccc_use_tiles.restype = None
