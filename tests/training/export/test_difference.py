"""Distances of adapters against the updates themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters.base import Base
from tests.tiny import random_adapter
from training.export.difference import ALL, distances
from training.export.weights import read_factors


@pytest.fixture
def pair(base: Base, tmp_path: Path) -> tuple[Path, Path]:
    """Of two ranks and scales; the second leaves projections out."""
    first = random_adapter(tmp_path / "a", base.path, seed=1, rank=4)
    targets = ("q_proj", "up_proj")
    return first, random_adapter(tmp_path / "b", base.path, seed=2, rank=2, targets=targets)


def test_norms_and_cosine_are_those_of_the_whole_updates(pair: tuple[Path, Path]) -> None:
    """Computed from the factors alone, they equal what the full matrices say."""
    first, second = map(read_factors, pair)
    flat = [
        torch.cat([one[name].delta.flatten() for name in sorted(one) if "up_proj" in name]).double()
        for one in (first, second)
    ]

    found = distances(*pair)["up_proj"]

    assert found.first_norm == pytest.approx(flat[0].norm().item(), rel=1e-5)
    assert found.second_norm == pytest.approx(flat[1].norm().item(), rel=1e-5)
    expected = torch.cosine_similarity(flat[0], flat[1], dim=0).item()
    assert found.cosine == pytest.approx(expected, abs=1e-6)


def test_an_adapter_is_like_itself(pair: tuple[Path, Path]) -> None:
    """Cosine 1 everywhere."""
    found = distances(pair[0], pair[0])

    assert {round(each.cosine or 0, 9) for each in found.values()} == {1.0}


def test_a_projection_that_one_leaves_out_has_no_angle(pair: tuple[Path, Path]) -> None:
    """It adds nothing there, and counts as nothing in all."""
    found = distances(*pair)

    assert found["k_proj"].second_norm == 0
    assert found["k_proj"].cosine is None
    parts = [each for name, each in found.items() if name != ALL]
    total = sum(each.first_norm**2 for each in parts) ** 0.5
    assert found[ALL].first_norm == pytest.approx(total)
