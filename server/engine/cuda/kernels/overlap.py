"""Kernels that begin while the one before them still runs.

A kernel for single tokens is shorter than it takes to launch one and to read its first bytes. So it
begins early, reads what was there all along (weights, factors of adapters, places), and waits only
then for what the kernel before it writes. Every program has to wait, also one with nothing to do: a
kernel counts as ended when its programs have, and the one behind it relies on all before.

Source: programmatic dependent launch, CUDA C++ programming guide; from compute capability 9.0 on.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from server.engine.cuda.step import Step

LEAST_CAPABILITY = (9, 0)


@triton.jit
def begin_early(overlaps: tl.constexpr):
    """Let the next kernel begin too. What comes until :func:`wait` may not depend on others."""
    if overlaps:
        gdc_launch_dependents()


@triton.jit
def wait(overlaps: tl.constexpr):
    """Wait until all that was launched before has ended."""
    if overlaps:
        gdc_wait()


def overlaps(step: Step) -> bool:
    """Whether the kernels of ``step`` begin early."""
    return step.tile == 1 and _is_able(step.tokens.device)


def early(is_early: bool) -> dict[str, bool]:
    """Options of a launch of a kernel that may begin early."""
    return {"launch_pdl": True} if is_early else {}


@cache
def _is_able(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    return torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY
