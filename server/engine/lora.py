"""LoRA in a mixed batch: which factors act on which tokens of a step.

Single tokens of all adapters go through two products ("masked dense"): one with the stacked A of
every active adapter, one with their stacked B; what a token has of other adapters is set to zero in
between. Pieces of prompts, one adapter each, use that adapter's own factors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch

from server.engine.batch import Batch

if TYPE_CHECKING:
    from server.engine.cuda.adapter import FlatStack
    from server.engine.native.adapter import PackedStack

# Projections that read the same input share one product with A and one fused output.
GROUPS: dict[str, tuple[str, ...]] = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "output": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}


@dataclass(frozen=True, slots=True)
class Expand:
    """The B side of one projection: ``columns`` of the shrunk input become ``outputs``.

    ``matrix``: [columns, outputs], the adapter's scaling included.
    """

    columns: slice
    outputs: slice
    matrix: torch.Tensor


@dataclass(frozen=True, slots=True)
class GroupFactors:
    """The factors of one group in one layer. ``shrink``: [K, inputs], the A of all projections."""

    shrink: torch.Tensor
    expands: Mapping[str, Expand]

    def add(self, x: torch.Tensor, y: torch.Tensor, foreign: torch.Tensor | None) -> None:
        """Add ``(x @ A.T) @ B`` to ``y``. ``foreign`` [rows, K]: true where a row has no part.

        Setting to zero, rather than multiplying by it, keeps one adapter's overflow out of the
        other rows.
        """
        shrunk = x.to(self.shrink.dtype) @ self.shrink.T
        if foreign is not None:
            shrunk.masked_fill_(foreign, 0.0)
        for expand in self.expands.values():
            part, inner = y[:, expand.outputs], shrunk[:, expand.columns]
            if part.dtype == inner.dtype:
                part.addmm_(inner, expand.matrix)
            else:
                part.add_(inner @ expand.matrix)


@dataclass(frozen=True, slots=True)
class LoraStack:
    """The factors of one or more adapters: for each layer, the groups that any of them has."""

    layers: tuple[Mapping[str, GroupFactors], ...]


def concatenated(stacks: Sequence[LoraStack]) -> LoraStack:
    """One stack with the factors of all ``stacks`` side by side, projection by projection."""
    if len(stacks) == 1:
        return stacks[0]
    layers = zip(*(stack.layers for stack in stacks), strict=True)
    return LoraStack(tuple(_concatenated_layer(layer) for layer in layers))


def _concatenated_layer(
    layer: Sequence[Mapping[str, GroupFactors]],
) -> dict[str, GroupFactors]:
    joined = {}
    for name, projections in GROUPS.items():
        present = [groups[name] for groups in layer if name in groups]
        if present:
            joined[name] = _concatenated_group(present, projections)
    return joined


def _concatenated_group(groups: Sequence[GroupFactors], projections: Sequence[str]) -> GroupFactors:
    shrinks: list[torch.Tensor] = []
    expands: dict[str, Expand] = {}
    start = 0
    for projection in projections:
        having = [group for group in groups if projection in group.expands]
        if not having:
            continue
        parts = [group.expands[projection] for group in having]
        shrinks += [group.shrink[part.columns] for group, part in zip(having, parts, strict=True)]
        matrix = torch.cat([part.matrix for part in parts])
        columns = slice(start, start + matrix.shape[0])
        expands[projection] = Expand(columns, parts[0].outputs, matrix)
        start = columns.stop
    return GroupFactors(torch.cat(shrinks), expands)


def column_owners(stacks: Sequence[LoraStack]) -> dict[str, list[int]]:
    """For each group of :func:`concatenated`, the index of the stack that each column is from.

    An adapter has the same projections and rank in every layer, so the first layer tells for all.
    """
    owners: dict[str, list[int]] = {}
    for name, projections in GROUPS.items():
        columns: list[int] = []
        for projection in projections:
            for index, stack in enumerate(stacks):
                group = stack.layers[0].get(name)
                if group is not None and projection in group.expands:
                    columns += [index] * group.expands[projection].matrix.shape[0]
        if columns:
            owners[name] = columns
    return owners


Factors: TypeAlias = "LoraStack | PackedStack | FlatStack"


@dataclass(frozen=True, eq=False, slots=True)
class LoadedAdapter:
    """An adapter in memory, ready to be applied by the model that it was loaded for.

    ``digest`` tells its content.
    """

    digest: str
    stack: Factors


@dataclass(frozen=True, slots=True)
class StepLora:
    """What the adapters of one step add, and where.

    ``stack`` acts on the first ``rows`` tokens, ``foreign`` says for each group where it does not
    (no entry: it acts on all). ``segments`` are the token ranges of prompts with their adapters.
    """

    rows: int
    stack: LoraStack | None
    foreign: Mapping[str, torch.Tensor]
    segments: tuple[tuple[slice, LoraStack], ...]

    def add(self, layer: int, group: str, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add to ``y`` [T, outputs] what the adapters make of ``x`` [T, inputs]."""
        if self.stack is not None and (factors := self.stack.layers[layer].get(group)):
            factors.add(x[: self.rows], y[: self.rows], self.foreign.get(group))
        for place, stack in self.segments:
            if factors := stack.layers[layer].get(group):
                factors.add(x[place], y[place], None)


def stack_of(adapter: LoadedAdapter) -> LoraStack:
    """The factors of an adapter that was loaded for torch."""
    assert isinstance(adapter.stack, LoraStack), "loaded for another model"
    return adapter.stack


class ActiveAdapters:
    """Keeps the stack of the adapters that single tokens use now. Owned by the engine thread.

    The stack is built anew only when the set of adapters changes, the masks only when a row does.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._active: tuple[LoadedAdapter, ...] = ()
        self._rows: tuple[int, ...] | None = None  # whose each row is; None: masks are stale
        self._stack: LoraStack | None = None
        self._owners: dict[str, torch.Tensor] = {}
        self._foreign: dict[str, torch.Tensor] = {}

    def step(self, batch: Batch, adapters: Sequence[LoadedAdapter | None]) -> StepLora | None:
        """What to apply to ``batch``, whose chunks have ``adapters``; ``None``: nothing."""
        count = len(batch.rows)
        self._use(adapters[:count])
        segments = tuple(
            (slice(segment.begin, segment.end), stack_of(adapter))
            for segment, adapter in zip(batch.segments, adapters[count:], strict=True)
            if adapter is not None
        )
        if self._stack is None and not segments:
            return None
        return StepLora(count, self._stack, self._foreign, segments)

    def _use(self, rows: Sequence[LoadedAdapter | None]) -> None:
        wanted = {adapter.digest: adapter for adapter in rows if adapter is not None}
        active = tuple(wanted[digest] for digest in sorted(wanted))
        if active != self._active:
            self._stack_up(active)
        numbers = {adapter.digest: number for number, adapter in enumerate(active)}
        owned = tuple(-1 if adapter is None else numbers[adapter.digest] for adapter in rows)
        if owned != self._rows:
            self._foreign = self._masks(owned)
            self._rows = owned

    def _stack_up(self, active: tuple[LoadedAdapter, ...]) -> None:
        self._active, self._rows, self._stack = (), None, None  # as it stays if memory runs out
        stacks = [stack_of(adapter) for adapter in active]
        self._owners = {
            name: torch.tensor(columns, device=self._device)
            for name, columns in column_owners(stacks).items()
        }
        self._stack = concatenated(stacks) if stacks else None
        self._active = active

    def _masks(self, owned: Sequence[int]) -> dict[str, torch.Tensor]:
        if set(owned) <= {0}:  # one adapter for every row: nothing is foreign
            return {}
        rows = torch.tensor(owned, device=self._device).unsqueeze(1)
        return {name: rows != columns for name, columns in self._owners.items()}
