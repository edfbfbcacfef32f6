"""How two adapters of one base differ: what they add to the weights, projection by projection."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import msgspec

from adapters.manifest import PROJECTIONS
from training.export.weights import Factors, read_factors

ALL = "all"


class Distance(msgspec.Struct, frozen=True):
    """Of what two adapters add: Frobenius norms, and the cosine of the angle between them.

    ``cosine`` is ``None`` where one of them adds nothing.
    """

    first_norm: float
    second_norm: float
    cosine: float | None


class Products(msgspec.Struct):
    """Inner products of the two updates, added up over tensors."""

    first: float = 0.0
    second: float = 0.0
    both: float = 0.0

    def add(self, first: Factors | None, second: Factors | None) -> None:
        self.first += inner(first, first)
        self.second += inner(second, second)
        self.both += inner(first, second)

    @property
    def distance(self) -> Distance:
        norms = math.sqrt(max(0.0, self.first)), math.sqrt(max(0.0, self.second))
        cosine = self.both / (norms[0] * norms[1]) if all(norms) else None
        return Distance(*norms, cosine)


def inner(one: Factors | None, other: Factors | None) -> float:
    """The inner product of two updates, without making either: [r, r'] is the largest matrix.

    ``<B A, B' A'> = sum((Bᵀ B') * (A A'ᵀ))``. An adapter without the projection adds nothing.
    """
    if one is None or other is None:
        return 0.0
    outputs = one.second.double().T @ other.second.double()
    inputs = one.first.double() @ other.first.double().T
    return one.scale * other.scale * (outputs * inputs).sum().item()


def distances(first: Path, second: Path) -> dict[str, Distance]:
    """By projection over all layers, and over :data:`ALL`, for two PEFT directories.

    Raises:
        ExportFailed: one of them is no plain LoRA.
    """
    ours, theirs = read_factors(first), read_factors(second)
    names = ours.keys() | theirs.keys()
    found = {
        projection: _over((ours, theirs), (n for n in names if f".{projection}." in n))
        for projection in PROJECTIONS
        if any(f".{projection}." in name for name in names)
    }
    return found | {ALL: _over((ours, theirs), names)}


def _over(both: tuple[dict[str, Factors], dict[str, Factors]], names: Iterable[str]) -> Distance:
    products = Products()
    for name in sorted(names):
        products.add(both[0].get(name), both[1].get(name))
    return products.distance
