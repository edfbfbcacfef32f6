"""An adapter's factors as the native kernels read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapters.base import Architecture
from server.engine.lora import GROUPS, GroupFactors, LoraStack
from server.engine.native.pack import interleaved, panels_of
from server.engine.native.structs import FORMATS, PANEL, AdapterStruct, FactorsStruct


class PackedStack:
    """All factors of one adapter, and the C view of them.

    ``dtype`` is that of the stored factors, fp32 or bf16; products are computed in fp32.
    """

    def __init__(self, stack: LoraStack, shape: Architecture, *, rank: int) -> None:
        self._tensors: list[torch.Tensor] = []
        factors = (FactorsStruct * (shape.layers * len(GROUPS)))()
        for layer, groups in enumerate(stack.layers):
            for number, (name, projections) in enumerate(GROUPS.items()):
                if name in groups:
                    place = layer * len(GROUPS) + number
                    factors[place] = self._packed(groups[name], projections, shape, rank)
        is_bf16 = bool(self._tensors) and self._tensors[0].dtype == torch.bfloat16
        self._factors = factors  # C has its address
        self.struct = AdapterStruct(
            rank=rank, format=FORMATS["bf16" if is_bf16 else "fp32"], factors=factors
        )

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors)

    def _packed(
        self, group: GroupFactors, projections: tuple[str, ...], shape: Architecture, rank: int
    ) -> FactorsStruct:
        inputs = group.shrink.shape[1]
        shrinks, expands = [], []
        for projection in projections:
            if part := group.expands.get(projection):
                shrinks.append(group.shrink[part.columns])
                expands.append(part.matrix.T)
            else:
                outputs = shape.projection_shape(projection)[1]
                shrinks.append(group.shrink.new_zeros(rank, inputs))
                expands.append(group.shrink.new_zeros(outputs, rank))
        is_gated = projections == GROUPS["gate_up"]
        expand = interleaved(*expands) if is_gated else torch.cat(expands)
        return FactorsStruct(
            shrink=self._keep(panels_of(torch.cat(shrinks))), expand=self._keep(panels_of(expand))
        )

    def _keep(self, tensor: torch.Tensor) -> int:
        self._tensors.append(tensor)
        return tensor.data_ptr()


def packed_bytes(shape: Architecture, rank: int, targets: Sequence[str], dtype: torch.dtype) -> int:
    """What the factors of an adapter take; a group that it has a part of is stored whole."""
    numbers = 0
    for projections in GROUPS.values():
        if not set(projections) & set(targets):
            continue
        inputs = shape.projection_shape(projections[0])[0]
        outputs = [shape.projection_shape(projection)[1] for projection in projections]
        numbers += -(-len(projections) * rank // PANEL) * PANEL * inputs
        numbers += -(-sum(outputs) // PANEL) * PANEL * rank
    return shape.layers * numbers * dtype.itemsize
