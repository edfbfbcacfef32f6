"""May these files be served as an adapter of that base? Every reason why not, without torch.

Problems name the file and the field or tensor. Nothing is copied or published here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import BinaryIO

import numpy as np

from adapters.base import Base
from adapters.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    SAMPLING_RANGES,
    WEIGHTS_FILE,
    FileRef,
    Manifest,
    SamplingDefaults,
)
from adapters.peft_config import LoraSettings, survey_settings
from adapters.safetensors_header import ITEM_SIZES, Header, TensorInfo, read_header
from adapters.storage import BLOCK, read_bytes

CONFIG_LIMIT = 1 << 20  # bytes
DTYPES = ("F32", "F16", "BF16")
# Bits of the exponent; all of them set means infinite or not a number.
_EXPONENTS = {"F32": ("<u4", 0x7F80_0000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
_EXAMPLES = 3  # named in a problem that many tensors share


def check_config(path: Path) -> tuple[LoraSettings | None, list[str]]:
    """The settings of an ``adapter_config.json`` as far as they can be read, and its problems."""
    settings, problems = survey_settings(read_bytes(path, CONFIG_LIMIT))
    return settings, [f"{CONFIG_FILE}: {problem}" for problem in problems]


def check_weights(path: Path, base: Base, settings: LoraSettings | None) -> list[str]:
    """Problems of an ``adapter_model.safetensors``: its form, its tensors, their values.

    Without ``settings`` nobody knows which tensors belong there; the rest is checked.
    """
    with path.open("rb") as file:
        try:
            header = read_header(file, path.stat().st_size)
        except ValueError as error:
            return [f"{WEIGHTS_FILE}: {error}"]
        problems = _dtype_problems(header)
        if settings is not None:
            problems += _tensor_problems(header, expected_tensors(base, settings))
        problems += _value_problems(file, header)
    return [f"{WEIGHTS_FILE}: {problem}" for problem in problems]


def expected_tensors(base: Base, settings: LoraSettings) -> dict[str, tuple[int, int]]:
    """The shape of every tensor of such an adapter, by PEFT's names: A (r, in), B (out, r)."""
    shapes = {}
    for layer in range(base.architecture.layers):
        for target in settings.target_modules:
            inputs, outputs = base.architecture.projection_shape(target)
            block = "mlp" if target in ("gate_proj", "up_proj", "down_proj") else "self_attn"
            stem = f"base_model.model.model.layers.{layer}.{block}.{target}"
            shapes[f"{stem}.lora_A.weight"] = (settings.r, inputs)
            shapes[f"{stem}.lora_B.weight"] = (outputs, settings.r)
    return shapes


def _dtype_problems(header: Header) -> list[str]:
    odd = [f"{name} is {info.dtype}" for name, info in _odd(header)]
    return [f"only {', '.join(DTYPES)} can be served: {_listed(odd)}"] if odd else []


def _odd(header: Header) -> Iterator[tuple[str, TensorInfo]]:
    return ((name, info) for name, info in header.tensors.items() if info.dtype not in DTYPES)


def _tensor_problems(header: Header, expected: dict[str, tuple[int, int]]) -> list[str]:
    found = header.tensors
    missing = [name for name in expected if name not in found]
    unexpected = [_printable(name) for name in found if name not in expected]
    misshapen = [
        f"{name} is {list(found[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    return [
        f"{_count(names, 'tensor')} {kind}: {_listed(names)}"
        for kind, names in kinds.items()
        if names
    ]


def _value_problems(file: BinaryIO, header: Header) -> list[str]:
    bad = [
        _printable(name)
        for name, info in header.tensors.items()
        if info.dtype in DTYPES and not _is_finite(file, header.data_start, info)
    ]
    return [f"{_count(bad, 'tensor')} with NaN or infinite values: {_listed(bad)}"] if bad else []


def _is_finite(file: BinaryIO, data_start: int, info: TensorInfo) -> bool:
    """Whether all values are finite, read block by block."""
    kind, exponent = _EXPONENTS[info.dtype]
    begin, end = info.data_offsets
    file.seek(data_start + begin)
    while begin < end:
        block = file.read(min(BLOCK, end - begin))
        if not block or len(block) % ITEM_SIZES[info.dtype]:
            return False  # shorter than its size said
        if np.any((np.frombuffer(block, kind) & exponent) == exponent):
            return False
        begin += len(block)
    return True


def check_manifest(
    manifest: Manifest, settings: LoraSettings, base: Base, files: Sequence[FileRef]
) -> list[str]:
    """Where a manifest from training disagrees with the base, the config or the files."""
    problems = [*_base_problems(manifest, base), *sampling_problems(manifest.sampling)]
    if manifest.rank != settings.r:
        problems.append(f"rank is {manifest.rank}, but {CONFIG_FILE} has r {settings.r}")
    if not math.isclose(manifest.alpha, settings.alpha, rel_tol=1e-6):
        problems.append(f"alpha is {manifest.alpha:g}, but {CONFIG_FILE} makes {settings.alpha:g}")
    if set(manifest.target_modules) != set(settings.target_modules):
        problems.append(f"target_modules are not those of {CONFIG_FILE}")
    problems += [
        f"files: {_printable(ref.name)} here is not the file described there"
        for ref in manifest.files
        if ref not in files
    ]
    return [f"{MANIFEST_FILE}: {problem}" for problem in problems]


def _base_problems(manifest: Manifest, base: Base) -> list[str]:
    fields = {
        "weights_sha256": "weights",
        "tokenizer_sha256": "tokenizer",
        "template_sha256": "chat template",
    }
    return [
        f"base.{field}: trained on '{_printable(manifest.base.name)}' with another {what} "
        f"({getattr(manifest.base, field)[:12]}) than '{base.name}' has here "
        f"({getattr(base.ref, field)[:12]})"
        for field, what in fields.items()
        if getattr(manifest.base, field) != getattr(base.ref, field)
    ]


def sampling_problems(sampling: SamplingDefaults) -> list[str]:
    """Values that no reply can be sampled with."""
    return [
        f"sampling.{field} is {value}, but must be from {low} to {high}"
        for field, (low, high) in SAMPLING_RANGES.items()
        if (value := getattr(sampling, field)) is not None and not low <= value <= high
    ]


def check_origin(settings: LoraSettings, base: Base) -> list[str]:
    """Whether an adapter trained elsewhere calls its base what we call ``base``."""
    named = settings.base_model_name_or_path
    if named is not None:
        same = {PurePath(base.name).name.casefold(), base.path.name.casefold()}
        if named in (base.name, str(base.path)) or PurePath(named).name.casefold() in same:
            return []
    calls = "names no base" if named is None else f"is '{_printable(named)}'"
    advice = "if both are the same base, say so (--assume-base; in a request, assume_base: true)"
    return [f"{CONFIG_FILE}: base_model_name_or_path {calls}, not '{base.name}'; {advice}"]


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(item[:200] for item in items[:_EXAMPLES])
    more = len(items) - _EXAMPLES
    return f"{shown} and {more} more" if more > 0 else shown


def _count(items: Sequence[str], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _printable(text: str) -> str:
    """Text from a stranger, safe to show on a terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]
