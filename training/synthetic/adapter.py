"""Adapters with random weights, as PEFT saves trained ones; for benchmarks of many at once."""

from __future__ import annotations

import json
from pathlib import Path

from adapters.base import Base
from adapters.manifest import CONFIG_FILE, PROJECTIONS, WEIGHTS_FILE
from training.replacement import replacing
from training.synthetic.base import block_of

RANK = 16
ALPHA = 32
# What the adapter adds, as a share of what the base's projection gives: it is heard, and the base
# still decides the size of hidden states and logits.
SHARE = 0.1


def make_random_adapter(directory: Path, base: Base, *, seed: int) -> Path:
    """Write a PEFT LoRA over the seven projections of ``base`` into ``directory``, fp32.

    Its rank is :data:`RANK`. Both factors are random. Equal arguments give equal bytes; what was
    in ``directory`` is replaced once the new one is whole.
    """
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    deviation = SHARE / (ALPHA / RANK * RANK**0.5)  # of B; A keeps that of its input
    tensors = {}
    for layer in range(base.architecture.layers):
        for target in PROJECTIONS:
            inputs, outputs = base.architecture.projection_shape(target)
            stem = f"base_model.model.model.layers.{layer}.{block_of(target)}.{target}"
            first = torch.randn(RANK, inputs, generator=generator) * inputs**-0.5
            second = torch.randn(outputs, RANK, generator=generator) * deviation
            tensors[f"{stem}.lora_A.weight"] = first
            tensors[f"{stem}.lora_B.weight"] = second
    with replacing(directory) as staged:
        save_file(tensors, staged / WEIGHTS_FILE, metadata={"format": "pt"})
        (staged / CONFIG_FILE).write_text(_config(base), encoding="utf-8")
    return directory


def _config(base: Base) -> str:
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(PROJECTIONS),
        "inference_mode": True,
    }
    return json.dumps(settings, indent=2) + "\n"
