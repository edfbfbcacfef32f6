"""Early stopping: when validation has not got better for long enough."""

from __future__ import annotations

import pytest

from training.execution.patience import Patience


@pytest.mark.parametrize(
    ("most", "min_delta", "losses", "is_over"),
    [
        (2, 0.0, [], False),
        (2, 0.0, [3.0, 3.0], False),
        (2, 0.0, [3.0, 3.0, 3.1], True),
        (2, 0.0, [3.0, 3.1, 2.9, 3.0], False),
        (2, 0.5, [3.0, 2.8, 2.6], True),
        (2, 0.5, [3.0, 2.8, 2.4, 2.3], False),
        (0, 0.0, [3.0] * 50, False),
    ],
)
def test_patience_runs_out_after_validations_without_a_gain(
    most: int, min_delta: float, losses: list[float], is_over: bool
) -> None:
    """In a row; small gains count together; none means never."""
    patience = Patience(most, min_delta, losses[:-1])
    for loss in losses[-1:]:
        patience.add(loss)

    assert patience.is_over is is_over


def test_the_reason_names_the_loss_that_was_not_beaten() -> None:
    """And for how long."""
    patience = Patience(2, 0.0, [3.0, 2.5, 2.6, 2.7])

    assert patience.reason == "no better validation loss than 2.5000 in 2 validations"
