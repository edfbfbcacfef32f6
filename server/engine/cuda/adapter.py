"""An adapter as the kernels read it: all factors in one piece of memory.

For each layer and each group of projections (:data:`server.engine.lora.GROUPS`) lie one after the
other A, [projections, rank, inputs], and B, [rank, outputs of all projections], its scaling
included; zeros where the adapter has no part. So everything lies at a place that is the rank times
a number which is the same for all adapters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from adapters.base import Architecture
from server.engine.lora import GROUPS, GroupFactors, LoraStack


class Layout:
    """Where the parts of an adapter begin, in elements for each rank."""

    def __init__(self, shape: Architecture) -> None:
        self.layers = shape.layers
        self.inputs: dict[str, int] = {}
        self.outputs: dict[str, int] = {}
        self._a: dict[str, int] = {}
        self._b: dict[str, int] = {}
        size = 0
        for name, projections in GROUPS.items():
            shapes = [shape.projection_shape(projection) for projection in projections]
            self.inputs[name] = shapes[0][0]
            self.outputs[name] = sum(outputs for _, outputs in shapes)
            self._a[name] = size
            self._b[name] = size + len(shapes) * self.inputs[name]
            size = self._b[name] + self.outputs[name]
        self._layer_size = size

    @property
    def size(self) -> int:
        """Elements of a whole adapter, for each rank."""
        return self.layers * self._layer_size

    def a(self, layer: int, group: str) -> int:
        return layer * self._layer_size + self._a[group]

    def b(self, layer: int, group: str) -> int:
        return layer * self._layer_size + self._b[group]


@dataclass(frozen=True, slots=True)
class FlatStack:
    """``factors``: [rank * layout.size]. ``address``: where they lie on the device."""

    factors: torch.Tensor
    rank: int
    address: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", self.factors.data_ptr())


def flat_stack(stack: LoraStack, layout: Layout, rank: int, device: torch.device) -> FlatStack:
    """``stack``, whose tensors are on the CPU, in one piece on ``device``. Safe in any thread."""
    dtype = next(group.shrink.dtype for groups in stack.layers for group in groups.values())
    factors = torch.zeros(rank * layout.size, dtype=dtype, pin_memory=device.type == "cuda")
    for layer, groups in enumerate(stack.layers):
        for name, group in groups.items():
            _fill(factors, layout, layer, name, group, rank)
    there = factors.to(device)
    if device.type == "cuda":  # the engine reads it on a stream of its own
        torch.cuda.current_stream().synchronize()
    return FlatStack(there, rank)


def _fill(
    factors: torch.Tensor, layout: Layout, layer: int, name: str, group: GroupFactors, rank: int
) -> None:
    inputs, outputs = layout.inputs[name], layout.outputs[name]
    begin, middle = rank * layout.a(layer, name), rank * layout.b(layer, name)
    a = factors[begin:middle].view(-1, rank, inputs)
    b = factors[middle : middle + rank * outputs].view(rank, outputs)
    for number, projection in enumerate(GROUPS[name]):
        if part := group.expands.get(projection):
            a[number] = group.shrink[part.columns]
            b[:, part.outputs] = part.matrix
