"""What the machine offers for training and serving, for ``lccc-admin doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import torch

from training.nn.model import BF16_CAPABILITY, cpu_computes_bf16


@dataclass(frozen=True, slots=True)
class Device:
    """A device with what was found, and advice where something can be better."""

    name: str
    found: str
    advice: str = ""


def describe_devices() -> Iterator[Device]:
    """The CPU, then every CUDA device."""
    memory = psutil.virtual_memory()
    number_format = "bf16, small bases in fp32" if cpu_computes_bf16() else "fp32 (no native bf16)"
    yield Device(
        "CPU",
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"computes in {number_format}, {memory.total / 2**30:.0f} GiB memory "
        f"({memory.available / 2**30:.0f} GiB free)",
    )
    if not torch.cuda.is_available():
        yield Device("GPU", "none; training and serving run on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        yield _cuda_device(index)


def _cuda_device(index: int) -> Device:
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    native = torch.cuda.get_device_capability(index) >= BF16_CAPABILITY
    return Device(
        f"GPU {index}",
        f"{properties.name}, {total / 2**30:.0f} GiB ({free / 2**30:.0f} GiB free), "
        f"computes in {'bf16' if native else 'fp16'}",
        "" if free > total / 2 else "Another process holds most of its memory.",
    )


def check_nf4() -> str | None:
    """Run a quantised layer forward and backward; what went wrong, or ``None``."""
    try:
        import bitsandbytes

        device = "cuda" if torch.cuda.is_available() else "cpu"
        layer = bitsandbytes.nn.Linear4bit(
            64, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4"
        ).to(device)
        rows = torch.ones(2, 64, device=device, requires_grad=True)
        layer(rows).sum().backward()
        if rows.grad is None or not torch.isfinite(rows.grad).all():
            return "its gradients are not finite"
    except Exception as error:  # noqa: BLE001 # whatever it is, it is the finding
        return f"{type(error).__name__}: {error}"
    return None
