"""A process's share of a step, where the memory is not enough for it at first."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch

from adapters.base import Base
from tests.training.conftest import MakePlan
from training.execution.optimisation import Optimisation
from training.nn.model import load_model, recomputed_layers
from training.planning.plan import Plan

CPU = torch.device("cpu")
DELICATE = ("lora.dropout=0.3", "training.neftune_alpha=5.0", "training.tokens_per_forward=120")
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory.")
OUT_OF_MEMORY_ON_A_CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


def trained(
    base: Base, plan: Plan, before_step: Callable[[torch.nn.Module, int], None]
) -> tuple[list[float], torch.nn.Module]:
    """The losses of three steps, and the model, which begins with no layer that computes again."""
    torch.manual_seed(0)
    model = load_model(base, plan.recipe, CPU, recomputed_layers=0).train()
    optimisation, losses = Optimisation(plan, model), []
    for step in range(3):
        before_step(model, step)
        losses.append(optimisation.step(step, plan.step_examples(step)).nll)
    return losses, model


def failing_once(error: Exception) -> Callable[[torch.nn.Module, int], None]:
    """In the second step the second forward's gradient breaks off in the midst of the layers."""

    def arrange(model: torch.nn.Module, step: int) -> None:
        if step != 1:
            return
        layer = model.get_base_model().model.layers[0]  # type: ignore[operator] # of PEFT
        forwards = []

        def watch(_layer: object, _given: object, out: torch.Tensor) -> None:
            forwards.append(out)
            if len(forwards) == 2:
                handle.remove()
                out.register_hook(fail)

        def fail(_gradient: torch.Tensor) -> None:
            raise error

        handle = layer.register_forward_hook(watch)

    return arrange


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, OUT_OF_MEMORY_ON_A_CPU], ids=["gpu", "cpu"])
def test_a_step_that_does_not_fit_is_made_anew(
    base: Base, make_plan: MakePlan, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """With all layers computed again from there on, and with the same bits: nothing of the first
    attempt is left, neither gradients of forwards that went well nor what dropout had drawn.
    """
    plan = make_plan(*DELICATE, "training.gradient_checkpointing=auto")
    wanted, straight = trained(base, plan, lambda *_: None)

    with caplog.at_level(logging.WARNING):
        losses, model = trained(base, plan, failing_once(error))

    assert losses == wanted
    assert (recomputed_layers(straight), recomputed_layers(model)) == (0, 2)
    others = dict(model.named_parameters())
    assert all(torch.equal(one, others[name]) for name, one in straight.named_parameters())
    assert "Step 2 did not fit into the memory" in caplog.text


@pytest.mark.parametrize(
    ("setting", "error"), [("false", OUT_OF_MEMORY), ("auto", RuntimeError("a bug"))]
)
def test_what_cannot_be_helped_so_goes_on_upwards(
    base: Base, make_plan: MakePlan, setting: str, error: Exception
) -> None:
    """A recipe that wants all kept, and errors of another kind."""
    plan = make_plan(*DELICATE, f"training.gradient_checkpointing={setting}")

    with pytest.raises(RuntimeError, match=str(error)):
        trained(base, plan, failing_once(error))
