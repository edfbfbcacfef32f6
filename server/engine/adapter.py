"""Reading one registered adapter into memory: its bytes once, checked, then parsed.

PEFT is not involved. A tensor whose name or shape does not fit is refused, because an adapter with
a tensor ignored would answer as another one.
"""

from __future__ import annotations

from collections.abc import Mapping

import safetensors.torch
import torch

from adapters.base import Base
from adapters.entry import Entry
from adapters.errors import AdapterInvalid
from adapters.manifest import CONFIG_FILE, WEIGHTS_FILE
from adapters.peft_config import LoraSettings, read_settings
from adapters.validate import expected_tensors
from server.engine.lora import GROUPS, Expand, GroupFactors, LoraStack

# Where a projection's factors lie in a layer, by the group that it is computed in.
_BLOCKS = {"qkv": "self_attn", "output": "self_attn", "gate_up": "mlp", "down": "mlp"}


def load_adapter(
    entry: Entry, base: Base, *, dtype: torch.dtype, device: torch.device
) -> LoraStack:
    """The factors of ``entry`` as ``dtype`` on ``device``.

    Raises:
        RegistryUnreadable: its bytes cannot be read, perhaps only now.
        RegistryCorrupt: they are not what was registered.
        AdapterInvalid: its tensors do not fit ``base``.
    """
    settings, problems = read_settings(entry.read(CONFIG_FILE))
    if settings is None:
        raise AdapterInvalid(entry.path, [f"{CONFIG_FILE}: {problem}" for problem in problems])
    try:
        tensors = safetensors.torch.load(entry.read(WEIGHTS_FILE))
    except safetensors.SafetensorError as error:
        raise AdapterInvalid(entry.path, [f"{WEIGHTS_FILE}: {error}"]) from error
    problems = _misfits(tensors, expected_tensors(base, settings))
    if problems:
        raise AdapterInvalid(entry.path, [f"{WEIGHTS_FILE}: {problem}" for problem in problems])
    ready = {name: tensor.to(device, dtype) for name, tensor in tensors.items()}
    layers = [_layer(ready, settings, base, number) for number in range(base.architecture.layers)]
    return LoraStack(tuple(layers))


def _misfits(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, int]]
) -> list[str]:
    problems = [f"{name} is missing" for name in sorted(expected.keys() - tensors.keys())]
    problems += [f"{name} is not known" for name in sorted(tensors.keys() - expected.keys())]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, not {shape}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    return problems


def _layer(
    tensors: Mapping[str, torch.Tensor], settings: LoraSettings, base: Base, layer: int
) -> dict[str, GroupFactors]:
    groups = {}
    for group, projections in GROUPS.items():
        stem = f"base_model.model.model.layers.{layer}.{_BLOCKS[group]}"
        shrinks: list[torch.Tensor] = []
        expands: dict[str, Expand] = {}
        output = 0
        for projection in projections:
            outputs = slice(output, output + base.architecture.projection_shape(projection)[1])
            output = outputs.stop
            if projection not in settings.target_modules:
                continue
            columns = slice(len(shrinks) * settings.r, (len(shrinks) + 1) * settings.r)
            shrinks.append(tensors[f"{stem}.{projection}.lora_A.weight"])
            matrix = _scaled(tensors[f"{stem}.{projection}.lora_B.weight"], settings)
            expands[projection] = Expand(columns, outputs, matrix)
        if shrinks:
            groups[group] = GroupFactors(torch.cat(shrinks), expands)
    return groups


def _scaled(factor: torch.Tensor, settings: LoraSettings) -> torch.Tensor:
    """B, [outputs, rank], as a product wants it: [rank, outputs], with the scaling in it.

    A scaled value beyond the dtype becomes its largest one: what is infinite would turn other
    rows' zeros into no numbers.
    """
    scaled = (factor * (settings.alpha / settings.r)).T.contiguous()
    most = torch.finfo(scaled.dtype).max
    return scaled.clamp_(-most, most)
