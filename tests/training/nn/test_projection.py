"""The fused projections: PEFT's results and gradients, with less work."""

from __future__ import annotations

import pytest
import torch

from adapters.base import Base
from tests.training.conftest import MakePlan
from training.nn.adalora import NAME
from training.nn.model import load_model, summed_nll
from training.nn.packing import pack
from training.nn.projection import fuse_projections
from training.planning.plan import Plan

CPU = torch.device("cpu")


def loss_and_gradients(
    base: Base, plan: Plan, *, is_fused: bool
) -> tuple[float, dict[str, torch.Tensor]]:
    """Of the plan's first step, with B filled and all random numbers from one seed."""
    torch.manual_seed(0)
    model = load_model(base, plan.recipe, CPU, is_fused=is_fused).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    torch.manual_seed(1)
    loss = summed_nll(model, pack(plan.step_examples(0)))
    loss.backward()
    found = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return loss.item(), found


@pytest.mark.parametrize(
    ("override", "tolerance"),
    [
        ("quantization.kind=nf4", 1e-5),
        ("quantization.kind=none", 1e-5),
        ("lora.kind=rslora", 1e-5),
        ("lora.target_modules=['q_proj', 'down_proj']", 1e-5),
        ("quantization.compute_dtype=bf16", 3e-2),  # fp32 factors on a bf16 base
    ],
)
def test_loss_and_gradients_are_pefts(
    base: Base, make_plan: MakePlan, override: str, tolerance: float
) -> None:
    """For every quantisation that is fused, kind of scale, and choice of projections."""
    plan = make_plan("lora.dropout=0.0", override)

    ours, gradients = loss_and_gradients(base, plan, is_fused=True)
    theirs, wanted = loss_and_gradients(base, plan, is_fused=False)

    assert ours == pytest.approx(theirs, rel=tolerance)
    assert gradients.keys() == wanted.keys()
    for name, gradient in wanted.items():
        size = gradient.norm()
        assert size > 0
        assert (gradients[name] - gradient).norm() <= tolerance * size, name


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["nf4", "none"])
def test_what_is_recomputed_is_what_was_computed(
    base: Base, make_plan: MakePlan, kind: str, dtype: str
) -> None:
    """With dropout too, the gradients with and without gradient checkpointing are the same bits,
    though the last projection of a layer is not computed again.
    """
    shared = (
        "lora.dropout=0.3",
        f"quantization.kind={kind}",
        f"quantization.compute_dtype={dtype}",
    )
    kept = make_plan(*shared, "training.gradient_checkpointing=false")
    again = make_plan(*shared, "training.gradient_checkpointing=true")

    loss, gradients = loss_and_gradients(base, kept, is_fused=True)
    other_loss, others = loss_and_gradients(base, again, is_fused=True)

    assert loss == other_loss
    assert gradients.keys() == others.keys()
    assert all(torch.equal(gradient, others[name]) for name, gradient in gradients.items())


def test_dropout_scales_what_it_keeps(base: Base, make_plan: MakePlan) -> None:
    """On average over many draws a projection gives what it gives without dropout."""
    plan = make_plan("lora.dropout=0.5", "quantization.kind=none")
    model = load_model(base, plan.recipe, CPU)
    projection = model.get_base_model().model.layers[0].mlp.up_proj
    with torch.no_grad():
        projection.lora_B[NAME].weight.normal_()
        x = torch.randn(1, 64)
        wanted = projection.eval()(x)
        drawn = projection.train()(x.expand(20_000, -1))

    spread = drawn.std(dim=0) / 20_000**0.5
    assert (drawn.std(dim=0) > 0).all()
    assert ((drawn.mean(dim=0) - wanted[0]).abs() < 5 * spread).all()


def test_an_adapter_that_is_off_changes_nothing(base: Base, make_plan: MakePlan) -> None:
    """PEFT's own switch still works: the base alone speaks."""
    plan = make_plan("quantization.kind=none")
    model = load_model(base, plan.recipe, CPU).eval()
    projection = model.get_base_model().model.layers[0].mlp.up_proj
    x = torch.randn(3, 64)
    with torch.no_grad():
        projection.lora_B[NAME].weight.normal_()
        with model.disable_adapter():
            without = projection(x)
        assert torch.equal(without, projection.base_layer(x))
        assert not torch.equal(projection(x), without)


@pytest.mark.parametrize(
    "override", ["lora.kind=dora", "lora.kind=adalora", "quantization.kind=int8"]
)
def test_other_kinds_stay_with_peft(base: Base, make_plan: MakePlan, override: str) -> None:
    """What computes something else is not replaced; plain LoRA is, in every projection."""
    others = load_model(base, make_plan(override).recipe, CPU, is_fused=False)
    plain = load_model(base, make_plan().recipe, CPU, is_fused=False)

    assert fuse_projections(others, NAME) == 0
    assert fuse_projections(plain, NAME) == 2 * 7
