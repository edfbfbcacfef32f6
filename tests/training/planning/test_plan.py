"""Plans: which dialogues in which step, how many steps, what they will need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.base import Base
from tests.training.conftest import MakePlan
from training.data.dataset import prepare
from training.errors import DataError
from training.recipe import read_recipe


def test_an_epoch_has_every_dialogue_once(make_plan: MakePlan) -> None:
    """The steps of an epoch together are all dialogues, each once; the next is in another order."""
    plan = make_plan()
    whole = [one.ids for dialogue in plan.train for one in dialogue]

    first = [one.ids for step in range(5) for one in plan.step_examples(step)]
    second = [one.ids for step in range(5, 10) for one in plan.step_examples(step)]

    assert plan.steps_per_epoch == 5
    assert sorted(first) == sorted(second) == sorted(whole)
    assert first != second


def test_the_order_depends_on_seed_and_step_alone(make_plan: MakePlan) -> None:
    """A resumed run sees what the uninterrupted one would; another seed sees another order."""
    ids = [[one.ids for one in make_plan().step_examples(3)] for _ in range(2)]
    other = [one.ids for one in make_plan("training.seed=7").step_examples(3)]

    assert ids[0] == ids[1]
    assert other != ids[0]


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (("training.max_steps=0",), 15),
        (("training.max_steps=0", "training.epochs=0.5"), 2),
        (("training.max_steps=0", "training.epochs=0.01"), 1),
        (("training.max_steps=7",), 7),
        (("training.max_steps=0", "training.batch_size=8", "training.epochs=1"), 2),
    ],
)
def test_steps_follow_epochs_or_max_steps(
    make_plan: MakePlan, overrides: tuple[str, ...], steps: int
) -> None:
    """Twenty dialogues: an epoch is 20 / (batch x accumulation) steps, rounded up."""
    assert make_plan(*overrides).total_steps == steps


def test_evaluation_dialogues_bounds_the_validation(make_plan: MakePlan) -> None:
    """A fixed part of the validation split is used; 0 means all of it."""
    assert len(make_plan("record.evaluation_dialogues=0").validation) == 4
    assert len(make_plan("record.evaluation_dialogues=1").validation) == 1


def test_accumulation_bounds_the_forward(make_plan: MakePlan) -> None:
    """Halving the batch and doubling the accumulation halves what one forward holds."""
    halved = make_plan("training.batch_size=1", "training.gradient_accumulation=4")

    assert make_plan().tokens_per_forward == 2 * 512
    assert halved.tokens_per_forward == 512


def test_identity_changes_with_what_must_not_change(make_plan: MakePlan) -> None:
    """Batch geometry and LoRA's shape are part of a run's identity; where to log is not."""
    plan = make_plan()

    assert make_plan("record.log_every=9").identity == plan.identity
    assert make_plan("lora.r=8").identity != plan.identity
    assert make_plan("prompt.roles=every-reply").identity != plan.identity
    assert make_plan("training.batch_size=4").identity != plan.identity


def test_a_dataset_without_replies_is_refused(base: Base, tmp_path: Path) -> None:
    """Nothing to learn from is an error before any model is loaded."""
    from training.train import plan_training

    raw = tmp_path / "raw.json"
    raw.write_text(json.dumps([["你好", "好"]] * 2))
    dataset = prepare([raw], "empty", tmp_path / "datasets")
    for path in dataset.path.glob("train.arrow"):
        path.write_bytes((dataset.path / "test.arrow").read_bytes())

    with pytest.raises(DataError, match="no dialogue with a reply"):
        plan_training(base, read_recipe("pocket"), dataset)
