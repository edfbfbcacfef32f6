"""What a run was made with: inputs by hash, seeds, versions, hardware, command.

No names of users or hosts, and of paths only what stands in the command.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from training.nn.model import training_device
from training.planning.plan import Plan

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "lccc-chat")


def environment(plan: Plan, identity: dict[str, str]) -> dict[str, Any]:
    """All of it. ``identity`` is what a resumed run must have in common with this one."""
    return {
        **machine(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "inputs": _inputs(plan),
        "seeds": {"training": plan.recipe.training.seed, "splits": plan.dataset.manifest.seed},
        "identity": identity,
    }


def machine() -> dict[str, Any]:
    """Versions and hardware, which may be others when a run is resumed."""
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(),
        "hardware": _hardware(training_device()),
    }


def differences(recorded: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """In which versions and which hardware the two differ, a line each."""
    before, now = _flat(recorded), _flat(current)
    return [
        f"{name} was {before.get(name, 'absent')}, is {now.get(name, 'absent')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    parts = {"python": found.get("python", "absent")}
    for section in ("versions", "hardware"):
        parts |= found.get(section, {})
    return {name: value for name, value in parts.items() if not name.endswith("_bytes")}


def _inputs(plan: Plan) -> dict[str, Any]:
    manifest, base = plan.dataset.manifest, plan.base.ref
    return {
        "dataset": {
            "name": plan.dataset.name,
            "sha256": manifest.sha256,
            "splits": {name: split.sha256 for name, split in manifest.splits.items()},
            "files": {one.name: one.sha256 for one in manifest.inputs},
        },
        "base": {
            "name": base.name,
            "weights_sha256": base.weights_sha256,
            "tokenizer_sha256": base.tokenizer_sha256,
            "template_sha256": base.template_sha256,
        },
        "recipe_sha256": plan.recipe.sha256,
    }


def _hardware(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "device": device.type,
        "processor": platform.machine(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "cpu_threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "compute capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
        }
    return found
