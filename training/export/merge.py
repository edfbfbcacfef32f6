"""A base with an adapter merged in: a checkpoint that is served like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from adapters.base import INDEX, Base
from adapters.generation_config import GENERATION_CONFIG, read_generation_config
from adapters.manifest import SamplingDefaults
from training.errors import ExportFailed
from training.export.weights import merged_tensors, read_factors
from training.stages import OnProgress

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack")


def write_merged(
    base: Base,
    adapter: Path,
    out: Path,
    dtype: str,
    sampling: SamplingDefaults,
    on_progress: OnProgress,
) -> None:
    """Write the checkpoint of ``base`` with the PEFT directory ``adapter`` merged in to ``out``.

    What is added is computed from the full-precision base in fp32 and rounded once to ``dtype``
    (:data:`DTYPES`). Tokenizer, template and index are the base's; its files keep their names.
    ``sampling``, where it says anything, goes into ``generation_config.json``. ``on_progress`` is
    as :func:`training.export.weights.merged_tensors` has it.

    Raises:
        ExportFailed: the adapter does not fit the base.
        OSError: ``out`` cannot be written.
    """
    factors = read_factors(adapter)
    kind = DTYPES[dtype]
    for name, tensors in merged_tensors(base, factors, kind, on_progress):
        _save(tensors, out / name)
    for path in base.path.iterdir():
        if path.is_file() and not path.name.startswith(".") and path.suffix not in _WEIGHTS:
            shutil.copyfile(path, out / path.name)
    if (index := out / INDEX).is_file():
        _write(index, _measured(json.loads(index.read_text("utf-8")), out))
    config = json.loads((base.path / "config.json").read_text("utf-8"))
    config.pop("quantization_config", None)
    config.pop("torch_dtype", None)
    config["dtype"] = str(kind).removeprefix("torch.")
    _write(out / "config.json", config)
    _write(out / GENERATION_CONFIG, _generation(base, sampling))


def _measured(index: dict[str, Any], out: Path) -> dict[str, Any]:
    """The index of several files, with the size that they have now."""
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    return index | {"metadata": {**index.get("metadata", {}), "total_size": size}}


def _generation(base: Base, sampling: SamplingDefaults) -> dict[str, Any]:
    """The base's own, with the adapter's defaults in place of its sampling."""
    own = {
        name: value
        for name in ("temperature", "top_p", "top_k", "repetition_penalty")
        if (value := getattr(sampling, name)) is not None
    }
    config = read_generation_config(base.path) | own
    return config | {"do_sample": own["temperature"] > 0} if "temperature" in own else config


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(0o644)  # safetensors keeps it to its owner
    except OSError:
        raise
    except Exception as error:  # safetensors hides a full disk in an error of its own
        raise ExportFailed(f"{path} could not be written: {error}") from error


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


@contextmanager
def new_directory(out: Path) -> Iterator[Path]:
    """A directory beside ``out`` that becomes it at the end, or is gone after any failure.

    An empty directory is filled, not replaced: it may be a mount point, or somebody be in it.

    Raises:
        ExportFailed: ``out`` is there already, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportFailed(f"{out} is there already; name a new or an empty directory.")
    place = out.resolve()
    is_there = place.is_dir()
    staged = (place if is_there else place.parent) / f".{place.name}.{uuid4().hex[:8]}.new"
    try:
        staged.mkdir(parents=True)
        yield staged
        if is_there:
            for child in staged.iterdir():
                child.replace(place / child.name)
        else:
            staged.replace(place)
    except OSError as error:
        raise ExportFailed(f"{out} could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
