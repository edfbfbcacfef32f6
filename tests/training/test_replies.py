"""Replies on the way: to the same lines each time, and the training is as without them."""

from __future__ import annotations

from pathlib import Path

import torch

from adapters.registry import Registry
from tests.training.conftest import MakePlan
from training.data.token_cache import load_tokenizer
from training.model import load_model
from training.plan import Plan
from training.recipe import read_recipe
from training.replies import MOST_TOKENS, Replies
from training.runs import Run, RunStore
from training.train import train


class Nobody:
    """Watches nothing."""

    def began(self, run: Run, plan: object, step: int) -> None:
        pass

    def event(self, event: object) -> None:
        pass

    def note(self, message: str) -> None:
        pass


def trained(root: Path, plan: Plan) -> Run:
    registry = Registry(root / "registry")
    return train(
        plan, "bot", runs=RunStore(root / "runs"), registry=registry, progress=Nobody()
    ).run


def test_each_validation_has_the_replies_to_the_same_lines(
    tmp_path: Path, make_plan: MakePlan
) -> None:
    """With what was said, and with what the data has there."""
    run = trained(tmp_path, make_plan("record.samples=2"))

    first, last = [event for event in run.events() if event.kind == "samples"]

    assert (first.step, last.step) == (3, 6)
    assert first.samples is not None
    assert last.samples is not None
    shown = [(one.prompt, one.expected) for one in first.samples]
    assert shown == [(one.prompt, one.expected) for one in last.samples]
    assert len(shown) == 2
    text = run.log_path.read_text("utf-8")
    assert "samples: step 3, samples 2" in text
    for prompt, expected in shown:
        assert expected
        assert "<|im" not in prompt + expected
        assert not prompt.startswith("user")


def test_the_lines_are_those_of_the_data(make_plan: MakePlan) -> None:
    """The last that is said before the reply, without its role; the reply without its end."""
    plan = make_plan()
    dialogues = [dialogue.utterances for dialogue in plan.dataset.split("validation")]
    replies = Replies(load_tokenizer(plan.base.path), plan.validation, 4)
    torch.manual_seed(0)
    model = load_model(plan.base, plan.recipe, torch.device("cpu"))

    was_training = model.training
    samples = replies.say(model)

    assert model.training is was_training
    assert [(one.prompt, one.expected) for one in samples] == [
        (said[-2], said[-1]) for said in dialogues
    ]
    assert all(len(one.reply) <= MOST_TOKENS for one in samples)


def test_the_training_is_the_same_with_and_without(tmp_path: Path, make_plan: MakePlan) -> None:
    """Nothing random is used up: the same losses to the last bit."""
    dropout = "lora.dropout=0.3"
    without = trained(tmp_path / "without", make_plan("record.samples=0", dropout))
    other = trained(tmp_path / "with", make_plan("record.samples=3", dropout))

    losses = [[one.loss for one in run.events() if one.loss] for run in (without, other)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6
    talked = ["samples" in {event.kind for event in run.events()} for run in (without, other)]
    assert talked == [False, True]


def test_the_default_records_some() -> None:
    """A person sees what is learnt without asking for it."""
    assert read_recipe("qwen3-0.6b-lccc").record.samples == 3
