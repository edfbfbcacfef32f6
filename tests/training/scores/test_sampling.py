"""Replies while a training runs: in its record, and of no influence on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from admin.records.watch import sentence
from tests.training.conftest import MakePlan
from training.errors import RecipeError
from training.planning.feasibility import check_feasible
from training.planning.plan import Plan
from training.runs import Event, Run, RunStore
from training.trackers import values_of
from training.train import train

SAMPLING = ("record.sample_every=2", "record.samples=3", "generation.max_tokens=5")
# Dropout draws, and checkpointed layers run twice: both would show a disturbance.
DELICATE = ("training.max_steps=5", "training.gradient_checkpointing=true", "lora.dropout=0.2")


class Deaf:
    """A progress that nobody watches."""

    def began(self, *_: object) -> None: ...

    def event(self, event: Event) -> None: ...

    def note(self, message: str) -> None: ...


def trained(plan: Plan, root: Path) -> Run:
    return train(plan, "bot", runs=RunStore(root), registry=None, progress=Deaf()).run


@pytest.fixture
def sampled(make_plan: MakePlan, tmp_path: Path) -> Run:
    return trained(make_plan(*DELICATE, *SAMPLING), tmp_path / "sampled")


def test_replies_and_figures_are_in_the_event_log(make_plan: MakePlan, sampled: Run) -> None:
    """Every so many steps and at the end, always to the same questions."""
    events = [event for event in sampled.events() if event.kind == "samples"]
    dialogues = make_plan().dataset.split("validation")
    asked = [dialogue.utterances[-2:] for dialogue in dialogues][:3]

    assert [event.step for event in events] == [2, 4, 5]
    for event in events:
        assert [[one.text, one.reference] for one in event.replies or ()] == asked
        assert event.scores is not None
        assert "bleu_4_characters" in event.scores
        assert "copied_from_training" not in event.scores
    assert "→" in sentence(events[-1])
    assert values_of(events[-1]).keys() == {f"samples/{name}" for name in events[-1].scores or ()}
    assert "samples: step 2" in sampled.log_path.read_text("utf-8")


def test_a_training_that_is_asked_ends_with_the_same_weights(
    make_plan: MakePlan, sampled: Run, tmp_path: Path
) -> None:
    """Bit for bit, with NF4, dropout and gradient checkpointing."""
    silent = trained(make_plan(*DELICATE), tmp_path / "silent")

    ends = [load_file(run.checkpoints / "step-5" / "lora.safetensors") for run in (sampled, silent)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1])
    assert not any(event.kind == "samples" for event in silent.events()), "off by default"


def test_without_a_validation_split_there_is_nothing_to_ask(make_plan: MakePlan) -> None:
    """Refused before a run exists, by the name of the field."""
    plan = make_plan(*SAMPLING)

    with pytest.raises(RecipeError, match=r"record\.sample_every"):
        check_feasible(replace(plan, validation=plan.validation[:0]))  # type: ignore[arg-type]
