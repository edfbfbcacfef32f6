"""An adapter's factors by the base's tensors, and the base's tensors with them merged in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from adapters.base import Base, weight_files
from adapters.manifest import CONFIG_FILE, WEIGHTS_FILE
from adapters.peft_config import LoraSettings, read_settings
from training.errors import ExportFailed
from training.stages import OnProgress

_STEM = "base_model.model."


class Factors(NamedTuple):
    """What one projection gets: ``scale * second @ first`` is added to its weight.

    ``first`` is A: [rank, inputs], ``second`` B: [outputs, rank], both as they are stored.
    """

    first: torch.Tensor
    second: torch.Tensor
    scale: float

    @property
    def delta(self) -> torch.Tensor:
        """What is added, in fp32: [outputs, inputs]."""
        return self.scale * (self.second.float() @ self.first.float())


def rank_of(adapter: Path) -> int:
    """The rank of the adapter in a PEFT directory.

    Raises:
        ExportFailed: it is no plain LoRA.
    """
    return _settings(adapter).r


def _settings(adapter: Path) -> LoraSettings:
    settings, problems = read_settings((adapter / CONFIG_FILE).read_bytes())
    if settings is None:
        raise ExportFailed(f"{adapter / CONFIG_FILE}: {'; '.join(problems)}.")
    return settings


def read_factors(adapter: Path) -> dict[str, Factors]:
    """The factors in a PEFT directory by the name of the base's tensor (``….q_proj.weight``).

    Raises:
        ExportFailed: it is no plain LoRA.
    """
    from safetensors.torch import load_file

    settings = _settings(adapter)
    tensors = load_file(adapter / WEIGHTS_FILE)
    scale = settings.alpha / settings.r
    return {
        name.removeprefix(_STEM).replace(".lora_A.weight", ".weight"): Factors(
            first, tensors[name.replace(".lora_A.", ".lora_B.")], scale
        )
        for name, first in tensors.items()
        if ".lora_A." in name
    }


def merged_tensors(
    base: Base,
    factors: dict[str, Factors],
    dtype: torch.dtype,
    on_progress: OnProgress,
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """The base's files one by one: name, and tensors by name in ``dtype``, factors merged in.

    The sum is made in fp32 and rounded once; one file lies in memory at a time. ``on_progress``
    gets (tensors that factors were merged into, such tensors in all).

    Raises:
        ExportFailed: the base has not all tensors that the adapter changes.
    """
    from safetensors.torch import load_file

    left = set(factors)
    for path in weight_files(base.path):
        tensors = load_file(path)
        for name in tensors:
            weight = tensors[name]
            if name in factors:
                left.remove(name)
                weight = weight.float() + factors[name].delta
                on_progress(len(factors) - len(left), len(factors))
            tensors[name] = weight.to(dtype).contiguous() if weight.is_floating_point() else weight
        yield path.name, tensors
    if left:
        raise ExportFailed(f"{base.path} has no {min(left)}, which the adapter changes.")
