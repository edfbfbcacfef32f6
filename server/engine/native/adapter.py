"""An adapter's factors as the native kernels read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapters.base import Architecture
from server.engine.lora import GROUPS, GroupFactors, LoraStack
from server.engine.native.pack import interleaved, padded, panels_of
from server.engine.native.structs import FORMATS, PANEL, AdapterStruct, FactorsStruct
from server.engine.pages import LINE, Pages

# What the factors of adapters are stored in, by the format of the base's weights.
FACTORS = {"fp32": "fp32", "bf16": "bf16", "int8": "int8", "nf4": "int8"}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
_MOST = 127
# Nothing is divided by less.
_LEAST = 1e-30


class PackedStack:
    """All factors of one adapter, and the C view of them.

    They are stored in ``factor_format``; products are computed in fp32. In int8 each column that a
    projection is shrunk to has one scale for its A and one for its B, which act on it in between.
    """

    def __init__(
        self, stack: LoraStack, shape: Architecture, *, rank: int, factor_format: str
    ) -> None:
        self._format = factor_format
        self._tensors: list[torch.Tensor] = []
        present = [name for name in GROUPS if any(name in groups for groups in stack.layers)]
        first = [GROUPS[name][0] for name in present]
        factors = (FactorsStruct * (shape.layers * len(GROUPS)))()
        rounding = len(factors) * len(FactorsStruct._fields_) * LINE
        pages = Pages(packed_bytes(shape, rank, first, factor_format) + rounding)
        for layer, groups in enumerate(stack.layers):
            for number, (name, projections) in enumerate(GROUPS.items()):
                if name in groups:
                    place = layer * len(GROUPS) + number
                    factors[place] = self._packed(groups[name], projections, shape, rank, pages)
        self._factors = factors  # C has its address
        self.struct = AdapterStruct(rank=rank, format=FORMATS[factor_format], factors=factors)

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors)

    def _packed(
        self,
        group: GroupFactors,
        projections: tuple[str, ...],
        shape: Architecture,
        rank: int,
        pages: Pages,
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
        scales = None
        if self._format == "int8":
            in_bytes = [in_eight_bits(each, dim=1) for each in shrinks]
            out_bytes = [in_eight_bits(each, dim=0) for each in expands]
            shrinks, expands = ([codes for codes, _ in each] for each in (in_bytes, out_bytes))
            of_a, of_b = (torch.cat([scale for _, scale in each]) for each in (in_bytes, out_bytes))
            scales = self._keep(padded(of_a * of_b, PANEL), pages)
        is_gated = projections == GROUPS["gate_up"]
        expand = interleaved(*expands) if is_gated else torch.cat(expands)
        dtype = _DTYPES[self._format]
        return FactorsStruct(
            shrink=self._keep(panels_of(torch.cat(shrinks).to(dtype)), pages),
            expand=self._keep(panels_of(expand.to(dtype)), pages),
            scales=scales,
        )

    def _keep(self, tensor: torch.Tensor, pages: Pages) -> int:
        """The address of a copy that lives as long as this object."""
        kept = pages.take(tensor.nbytes).view(tensor.dtype).view(tensor.shape)
        self._tensors.append(kept.copy_(tensor))
        return kept.data_ptr()


def in_eight_bits(matrix: torch.Tensor, *, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers of at most 127, and what each row (``dim`` 1) or column of them counts.

    Where one is no number, or infinite, its scale is none either, and so will be the results.
    """
    most = matrix.float().abs().amax(dim, keepdim=True)
    scale = most / _MOST
    codes = (matrix / scale.clamp_min(_LEAST)).nan_to_num().round()
    return codes.to(torch.int8), scale.squeeze(dim)


def packed_bytes(shape: Architecture, rank: int, targets: Sequence[str], factor_format: str) -> int:
    """What the factors of an adapter take; a group that it has a part of is stored whole."""
    size, total = _DTYPES[factor_format].itemsize, 0
    for projections in GROUPS.values():
        if not set(projections) & set(targets):
            continue
        inputs = shape.projection_shape(projections[0])[0]
        outputs = [shape.projection_shape(projection)[1] for projection in projections]
        columns = -(-len(projections) * rank // PANEL) * PANEL
        total += columns * inputs * size + -(-sum(outputs) // PANEL) * PANEL * rank * size
        if factor_format == "int8":
            total += columns * torch.float32.itemsize
    return shape.layers * total
