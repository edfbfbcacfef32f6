"""Settings that do not go together are refused before a run exists, by the name of the field."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.conftest import MakePlan
from training.errors import RecipeError
from training.planning.feasibility import check_feasible


def test_an_ordinary_plan_is_feasible(make_plan: MakePlan) -> None:
    """Also with everything on."""
    check_feasible(make_plan())
    check_feasible(make_plan("lora.kind=adalora", "training.early_stopping_patience=3"))


def test_a_scheduler_without_its_options_is_refused(make_plan: MakePlan) -> None:
    """Not when the model has been loaded."""
    with pytest.raises(RecipeError, match=r"training\.scheduler_options"):
        check_feasible(make_plan("training.scheduler=warmup_stable_decay"))


def test_schedulers_are_asked_only_about_options(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To plan is quick: what computes them is not loaded for those that need none."""
    asked: list[str] = []
    monkeypatch.setattr("training.optimizer.schedule", lambda one, _: asked.append(one.scheduler))

    for scheduler in ("constant", "linear", "cosine", "inverse_sqrt"):
        check_feasible(make_plan(f"training.scheduler={scheduler}"))
    check_feasible(
        make_plan("training.scheduler=cosine", "training.scheduler_options={num_cycles=1.0}")
    )

    assert asked == ["inverse_sqrt", "cosine"]


def test_patience_needs_a_validation(make_plan: MakePlan) -> None:
    """Without one it would have no effect, silently."""
    plan = make_plan("training.early_stopping_patience=3")
    none = plan.validation[:0]

    with pytest.raises(RecipeError, match=r"training\.early_stopping_patience.*'small' has none"):
        check_feasible(replace(plan, validation=none))  # type: ignore[arg-type]


@pytest.mark.parametrize("start", ["0.3", "0.0"])
def test_adalora_needs_steps_to_take_ranks_away_in(make_plan: MakePlan, start: str) -> None:
    """A training of two steps has none, or none in which ranks could be weighed before."""
    short = make_plan("lora.kind=adalora", "training.max_steps=2", f"adalora.start={start}")

    with pytest.raises(RecipeError, match=r"adalora\.start.* 2 steps are too few"):
        check_feasible(short)
