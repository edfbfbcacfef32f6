"""Adapters with random weights, as PEFT saves trained ones; for benchmarks of many at once."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

from adapters.base import Base
from adapters.manifest import CONFIG_FILE, PROJECTIONS, WEIGHTS_FILE
from training.random_base import block_of

RANK = 16
ALPHA = 32
# What the adapter adds, as a share of what the base's projection gives: it is heard, and the base
# still decides the size of hidden states and logits.
SHARE = 0.1


def make_random_adapter(
    directory: Path, base: Base, *, seed: int, rank: int = RANK, alpha: float = ALPHA
) -> Path:
    """Write a PEFT LoRA over the seven projections of ``base`` into ``directory``, fp32.

    Both factors are random. Equal arguments give equal bytes; what was in ``directory`` is
    replaced once the new one is whole.
    """
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    deviation = SHARE / (alpha / rank * rank**0.5)  # of B; A keeps that of its input
    tensors = {}
    for layer in range(base.architecture.layers):
        for target in PROJECTIONS:
            inputs, outputs = base.architecture.projection_shape(target)
            stem = f"base_model.model.model.layers.{layer}.{block_of(target)}.{target}"
            first = torch.randn(rank, inputs, generator=generator) * inputs**-0.5
            second = torch.randn(outputs, rank, generator=generator) * deviation
            tensors[f"{stem}.lora_A.weight"] = first
            tensors[f"{stem}.lora_B.weight"] = second
    staged = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")
    staged.mkdir(parents=True)
    try:
        save_file(tensors, staged / WEIGHTS_FILE, metadata={"format": "pt"})
        (staged / CONFIG_FILE).write_text(_config(base, rank, alpha), encoding="utf-8")
        shutil.rmtree(directory, ignore_errors=True)
        return staged.rename(directory)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _config(base: Base, rank: int, alpha: float) -> str:
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(PROJECTIONS),
        "inference_mode": True,
    }
    return json.dumps(settings, indent=2) + "\n"
