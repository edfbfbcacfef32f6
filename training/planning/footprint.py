"""How much memory a training takes, estimated by its shapes.

What a layer keeps for its gradient was counted in what torch saves; what comes on top of that was
measured (BENCHMARKS.md), on CPUs as memory of the process that is no file's, on GPUs as what torch
allocates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adapters.base import Architecture
from adapters.manifest import PROJECTIONS
from training.nn import flash
from training.nn.model import compute_dtype
from training.optimizer import OPTIMIZERS
from training.planning.flops import linear_parameters
from training.planning.forward import Forward
from training.planning.plan import Plan
from training.recipe import Quantization

_FP32 = 4  # bytes
MIB = 2**20
# On CPUs, of what a layer keeps: how much of the heap that takes while blocks of other sizes come
# and go, and what is taken where it is computed again and let go. On GPUs, for what is not counted.
_CPU_KEPT, _CPU_PASSED = 1.45, 0.32
_GPU_KEPT = 1.1
# The code and the buffers of torch and the libraries below it.
_CPU_LIBRARIES, _GPU_LIBRARIES = 560 * MIB, 64 * MIB


@dataclass(frozen=True)
class Footprint:
    """What a training by ``plan`` holds on ``device`` in its largest ``forward``.

    ``dtype`` is that of activations.
    """

    plan: Plan
    device: torch.device
    dtype: torch.dtype
    forward: Forward

    @classmethod
    def of(cls, plan: Plan, device: torch.device) -> Footprint:
        asked = plan.recipe.quantization.compute_dtype
        dtype = compute_dtype(asked, device, plan.base.architecture)
        return cls(plan, device, dtype, Forward.largest(plan))

    def bytes_of(self, recomputed_layers: int) -> dict[str, int]:
        """Bytes by purpose, where the first ``recomputed_layers`` are computed again."""
        recipe, shape = self.plan.recipe, self.plan.base.architecture
        # logits' logarithms, their gradient, and the gradient of what these are of
        logits = 3 * _FP32 * shape.vocab_size * self.forward.targets
        a_parameter = 2 * _FP32 + OPTIMIZERS[recipe.training.optimizer].state_bytes
        return {
            "base": base_bytes(shape, recipe.quantization, self.dtype),
            "lora, gradients and optimizer": int(a_parameter * self.plan.trainable_parameters),
            "activations": self._activations(recomputed_layers),
            "logits": logits,
            "libraries": _CPU_LIBRARIES if self._is_cpu else _GPU_LIBRARIES,
        }

    def total(self, recomputed_layers: int) -> int:
        """The sum of :meth:`bytes_of`."""
        return sum(self.bytes_of(recomputed_layers).values())

    @property
    def _is_cpu(self) -> bool:
        return self.device.type == "cpu"

    def _activations(self, recomputed_layers: int) -> int:
        """All that is there when the last layer has been computed, with what the heap adds."""
        shape, kept = self.plan.base.architecture, self._kept_by_layer
        inputs = recomputed_layers * self.forward.tokens * shape.hidden_size * self.dtype.itemsize
        all_kept = (shape.layers - recomputed_layers) * kept
        if self._is_cpu:
            held = _CPU_KEPT * all_kept + _CPU_PASSED * recomputed_layers * kept
        else:
            held = _GPU_KEPT * (all_kept + (kept if recomputed_layers else 0))
        return int(inputs + held)

    @property
    def _kept_by_layer(self) -> int:
        """Bytes that a layer keeps for its gradient, where it is not computed again."""
        recipe = self.plan.recipe
        return kept_bytes(
            self.plan.base.architecture,
            self.forward.tokens,
            itemsize=self.dtype.itemsize,
            r=recipe.initial_r,
            drops=recipe.lora.dropout > 0,
            is_fused=recipe.lora.kind in ("lora", "rslora") and recipe.quantization.kind != "int8",
            is_masked=not self._is_cpu and not flash.is_possible(self.device, self.dtype),
        )


def base_bytes(shape: Architecture, quantization: Quantization, dtype: torch.dtype) -> int:
    """The frozen base's weights as ``quantization`` has them."""
    nf4 = 0.5 + (0.127 / 8 if quantization.double else 0.5 / 8)  # QLoRA paper, section 3
    linear = {"nf4": nf4, "int8": 1, "none": dtype.itemsize}[quantization.kind]
    embedding = shape.vocab_size * shape.hidden_size
    return int(linear_parameters(shape) * linear + embedding * dtype.itemsize)


def kept_bytes(
    shape: Architecture,
    tokens: int,
    *,
    itemsize: int,
    r: int,
    drops: bool,
    is_fused: bool,
    is_masked: bool,
) -> int:
    """What one layer keeps of ``tokens`` for its gradient.

    Activations have ``itemsize`` bytes, LoRA the rank ``r``, and it ``drops`` of its inputs. Unless
    projections are ``is_fused``, PEFT keeps a copy of their inputs and what they give. Where
    attention ``is_masked``, each layer keeps the mask, and its keys and values once for each head.
    """
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    # norms compute in fp32: of a layer's input, of attention's output, of queries and keys
    each = _FP32 * (2 * hidden + queries + keys)
    # what these are, keys and values and queries as attention takes them, what it gives, before and
    # after it is laid out for the next product; and in the MLP gate, its activation, up, both
    each += itemsize * (2 * hidden + queries + 2 * keys + 2 * queries + 4 * inner)
    each += _FP32 * r * len(PROJECTIONS)
    inputs = 3 * hidden + queries + 2 * hidden + inner
    if drops:  # a byte for each input of each projection
        each += inputs
    if not is_fused:
        each += itemsize * (inputs + queries + 2 * keys + 2 * hidden + 2 * inner)
    if is_masked:
        each += itemsize * (2 * (queries - keys) + tokens)
    return tokens * each
