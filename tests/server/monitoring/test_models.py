"""By which models figures are kept, by a clock in hand."""

from __future__ import annotations

import pytest

from server.monitoring.models import FORGOTTEN_AFTER_S, MOST_DETAILED, OTHERS, MetricModels


class Clock:
    """Seconds, which pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def forgotten() -> list[str]:
    return []


@pytest.fixture
def models(clock: Clock, forgotten: list[str]) -> MetricModels:
    return MetricModels(forgotten.append, clock)


def test_the_first_models_have_histograms_of_their_own(models: MetricModels) -> None:
    """The others share theirs, so that thousands of adapters do not make a million lines."""
    names = [f"user-{number}" for number in range(MOST_DETAILED + 3)]
    for name in names:
        models.meet(name, lambda: names)
    assert [models.label(name) for name in names] == [
        *names[:MOST_DETAILED],
        OTHERS,
        OTHERS,
        OTHERS,
    ]


def test_who_is_gone_for_long_is_forgotten(
    models: MetricModels, clock: Clock, forgotten: list[str]
) -> None:
    """Not at once, for what it did last has to be read; and not if it has come back."""
    for name in ("base", "comes-back", "leaves"):
        models.meet(name, lambda: ["base", "comes-back", "leaves"])
    models.meet("a", lambda: ["base", "a"])
    clock.now_s = FORGOTTEN_AFTER_S - 1
    models.meet("b", lambda: ["base", "a", "b", "comes-back"])
    assert forgotten == []
    clock.now_s = FORGOTTEN_AFTER_S
    models.meet("c", lambda: ["base", "a", "b", "c", "comes-back"])
    assert forgotten == ["leaves"]


def test_a_place_that_is_left_is_taken(models: MetricModels, clock: Clock) -> None:
    """By the next new model."""
    names = [f"user-{number}" for number in range(MOST_DETAILED)]
    for name in names:
        models.meet(name, lambda: names)
    models.review(names[1:])
    clock.now_s = FORGOTTEN_AFTER_S
    models.meet("new", lambda: names[1:])
    assert models.label("new") == "new"
