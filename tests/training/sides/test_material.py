"""What the sides of ``bench train`` train on: the same dialogues, whoever makes the steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters.base import Base
from training.errors import RecipeError
from training.recipe import read_recipe
from training.sides.job import Job
from training.sides.material import (
    check_comparable,
    device_named,
    dialogues_needed,
    lesson,
    random_dataset,
)
from training.sides.padded import IGNORED, padded

RECIPE = read_recipe("qwen3-0.6b-lccc", ["training.tokens_per_forward=2000"])


def test_all_sides_of_a_pair_get_the_same_sequences(base: Base, tmp_path: Path) -> None:
    """A job holds what the plan's steps would; labels stand where the loss is, rounds differ."""
    dataset = random_dataset(tmp_path, 200, seed=0)
    exact = lesson(base, RECIPE, dataset, "exact", steps=2, rounds=1)
    filled = lesson(base, RECIPE, dataset, "throughput", steps=4, rounds=1)
    path = tmp_path / "job.json"

    exact.job(torch.device("cpu")).write(path)

    job = Job.read(path)
    wanted = [one for step in (2, 3) for one in exact.plan.step_examples(step)]
    assert [tuple(ids) for ids, _ in job.sequences[1]] == [tuple(one.ids) for one in wanted]
    for (ids, labels), one in zip(job.sequences[1], wanted, strict=True):
        learnt = [token for token, is_target in zip(ids, one.is_target, strict=True) if is_target]
        assert [label for label in labels if label != IGNORED] == learnt
    counts = exact.counts(1)
    assert counts.dialogues == 16
    assert counts.tokens == sum(len(one.ids) for one in wanted)
    assert counts.target_tokens == sum(one.targets for one in wanted)
    assert filled.counts(1).dialogues == filled.steps * filled.plan.pace.dialogues_per_step
    assert abs(filled.counts(1).dialogues - 32) < filled.plan.pace.dialogues_per_step


@pytest.mark.parametrize(("asked", "dtype"), [("auto", "float32"), ("bf16", "bfloat16")])
def test_peers_compute_in_the_dtype_that_we_do(
    base: Base, tmp_path: Path, asked: str, dtype: str
) -> None:
    """In the recipe's, and where that leaves it to the machine, in what suits so small a base."""
    recipe = read_recipe("qwen3-0.6b-lccc", [f"quantization.compute_dtype={asked}"])
    dataset = random_dataset(tmp_path, 100, seed=0)
    assert lesson(base, recipe, dataset, "exact", 1, 1).job(torch.device("cpu")).dtype == dtype


def test_a_plain_batch_is_as_long_as_the_maximum() -> None:
    """Rows are padded without loss and without attention."""
    batch = padded([([5, 6, 7], [IGNORED, 6, 7]), ([8], [8])], 6, torch.device("cpu"))

    assert batch["input_ids"].tolist() == [[5, 6, 7, 0, 0, 0], [8, 0, 0, 0, 0, 0]]
    assert batch["labels"][0].tolist() == [IGNORED, 6, 7, IGNORED, IGNORED, IGNORED]
    assert batch["attention_mask"].sum(1).tolist() == [3, 1]


def test_every_round_has_dialogues_of_its_own() -> None:
    """Also of the mode that takes most of them."""
    assert dialogues_needed(RECIPE, 8192, 1, 3) >= 4 * 8192 // 25


def test_what_peers_do_not_know_is_refused() -> None:
    """With the field named; and a GPU that is not there."""
    with pytest.raises(RecipeError, match=r"lora\.kind = 'lora' alone, not 'dora'"):
        check_comparable(read_recipe("qwen3-0.6b-lccc", ["lora.kind=dora"]))
    check_comparable(RECIPE)
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="--device cuda"):
            device_named("cuda")
