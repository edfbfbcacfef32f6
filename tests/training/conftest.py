"""A tiny base, a small dataset, and plans over them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from adapters.base import Base, read_base
from tests.tiny import tiny_base
from training.data.dataset import PreparedDataset, prepare
from training.planning.plan import Plan
from training.recipe import Recipe, read_recipe

LINES = ["今天好热", "多喝水吧", "我好困", "早点睡吧", "想吃火锅", "走吧", "加班到10点", "辛苦了"]
DIALOGUES = [
    [f"{LINES[index % 8]}{index}", LINES[(index * 3 + 1) % 8], "嗯", LINES[(index + 5) % 8]][
        : 2 + 2 * (index % 2)
    ]
    for index in range(24)
]
QUICK = (
    "training.max_steps=6",
    "training.learning_rate=0.01",
    "training.batch_size=2",
    "training.gradient_accumulation=2",
    "training.gradient_checkpointing=false",
    "record.evaluate_every=3",
    "record.save_every=2",
    "record.log_every=1",
    "quantization.compute_dtype=fp32",
)

MakePlan = Callable[..., Plan]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A random Qwen3 of two layers."""
    return read_base(tiny_base(tmp_path_factory.mktemp("bases") / "tiny"), "tiny")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Twenty-four short dialogues, four of them for validation."""
    root = tmp_path_factory.mktemp("data")
    (root / "raw.json").write_text(
        json.dumps({"train": DIALOGUES[:20], "valid": DIALOGUES[20:]}), encoding="utf-8"
    )
    return prepare([root / "raw.json"], "small", root / "datasets")


@pytest.fixture
def make_plan(base: Base, dataset: PreparedDataset) -> MakePlan:
    """Plans for the tiny base by the quick recipe, with further ``key=value`` overrides."""
    from training.train import plan_training

    def plan(*overrides: str, recipe: Recipe | None = None) -> Plan:
        chosen = recipe or read_recipe("qwen3-0.6b-lccc", [*QUICK, *overrides])
        return plan_training(base, chosen, dataset)

    return plan
