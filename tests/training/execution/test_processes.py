"""Several processes that train together: the same as one, and nobody is left waiting."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from adapters.base import Base
from tests.training.conftest import QUICK, MakePlan
from tests.training.together import Together
from training.data.dataset import PreparedDataset
from training.data.encode import Example
from training.errors import DeviceMissing, ResumeRefused
from training.execution.group import ALONE, Group, Order, part_of
from training.execution.processes import Processes
from training.execution.share import Share
from training.nn.model import load_model
from training.recipe import read_recipe
from training.runs import Run, RunStore
from training.train import plan_training, train

# Sums of floats in another order: SGD, so that a rounding stays one, and no dropout.
EXACT = (*QUICK, "lora.dropout=0", "training.optimizer=sgd", "training.learning_rate=0.5")


def run_of(together: Together) -> Run:
    (run,) = RunStore(together.runs).all()
    return run


def weights_of(run: Run, step: int = 6) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoints / f"step-{step}" / "lora.safetensors")


class Part(Group):
    """One of two, of which the other is nowhere."""

    size = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank


def test_the_parts_of_a_step_add_up_to_its_gradient(base: Base, make_plan: MakePlan) -> None:
    """What two processes compute is together what one would, of steps and of validations."""
    plan = make_plan("lora.dropout=0", "quantization.kind=none")
    model = load_model(base, plan.recipe, torch.device("cpu"))
    alone, parts = Share(plan, model), [Share(plan, model, Part(rank)) for rank in (0, 1)]
    examples = plan.step_examples(0)

    nll = alone.backward(0, examples)
    expected = [parameter.grad.clone() for parameter in alone.parameters]
    model.zero_grad(set_to_none=True)
    nlls = [part.backward(0, examples) for part in parts]

    assert all(0 < one < nll for one in nlls)
    assert sum(nlls) == pytest.approx(nll)
    for parameter, gradient in zip(alone.parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    whole, halves = alone.validation(), [part.validation() for part in parts]
    assert sum(half.nll for half in halves) == pytest.approx(whole.nll)
    assert sum(half.tokens for half in halves) == whole.tokens
    assert sum(half.characters for half in halves) == whole.characters


@pytest.mark.slow
def test_two_processes_train_as_one(base: Base, dataset: PreparedDataset, tmp_path: Path) -> None:
    """The same global batch: weights and losses equal those of one process within rounding, and
    the record is as complete.
    """
    one, two = (
        Together(base.path, dataset.path, EXACT, tmp_path / str(size), size) for size in (1, 2)
    )
    one.run()
    two.run()

    alone, shared = run_of(one), run_of(two)
    assert shared.status().state == "completed"
    made, expected = weights_of(shared), weights_of(alone)
    assert made.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(made[name], tensor, rtol=1e-4, atol=1e-6)
    assert any(tensor.abs().max() > 0.01 for name, tensor in expected.items() if "lora_B" in name)
    for ours, theirs in zip(shared.events(), alone.events(), strict=True):
        assert (ours.kind, ours.step) == (theirs.kind, theirs.step)
        for field in ("loss", "gradient_norm", "validation_nll", "validation_nll_per_character"):
            found, wanted = getattr(ours, field), getattr(theirs, field)
            assert found == (wanted if wanted is None else pytest.approx(wanted, rel=1e-4))


@pytest.mark.slow
def test_a_run_of_two_resumes_as_two_and_exactly(
    base: Base, dataset: PreparedDataset, tmp_path: Path, make_plan: MakePlan
) -> None:
    """Also with dropout, which each draws for itself; with another number it is refused."""
    work = Together(base.path, dataset.path, QUICK, tmp_path / "straight", 2)
    broken = Together(base.path, dataset.path, QUICK, tmp_path / "broken", 2)
    work.run()
    broken.run()
    run = run_of(broken)
    for step in (4, 6):
        (run.checkpoints / f"step-{step}" / "state.pt").write_bytes(b"torn")
    status = run.status()
    run.write_status(msgspec.structs.replace(status, state="failed"))
    with pytest.raises(ResumeRefused, match=r"processes: was '2', is None"):
        train(
            make_plan(),
            "bot",
            runs=RunStore(broken.runs),
            registry=None,
            progress=None,  # type: ignore[arg-type] # refused before anybody watches
            resume=run,
        )
    broken.run()

    assert run.status().state == "completed"
    resumed = weights_of(run)
    for name, tensor in weights_of(run_of(work)).items():
        assert torch.equal(resumed[name], tensor)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_example_is_dealt_out_once(size: int) -> None:
    """In parts of about as many tokens, each in the old order; some may be empty."""
    examples = [Example([0] * length, [True] * length) for length in (9, 4, 30, 7, 7, 12, 3, 20)]

    parts = [part_of(examples, rank, size) for rank in range(size)]

    assert sorted(map(id, examples)) == sorted(id(one) for part in parts for one in part)
    for part in parts:
        places = [next(i for i, e in enumerate(examples) if e is one) for one in part]
        assert places == sorted(places)
    sizes = [sum(len(one.ids) for one in part) for part in parts]
    assert max(sizes) - min(sizes) <= 30
    assert part_of(examples[:1], 1, 2) == []


def test_throughput_mode_fills_a_forward_of_each(base: Base, dataset: PreparedDataset) -> None:
    """Two processes take twice the dialogues a step."""
    fuller = (*QUICK, "training.mode=throughput", "training.tokens_per_forward=800")
    recipe = read_recipe("qwen3-0.6b-lccc", fuller)
    one, two = (plan_training(base, recipe, dataset, processes=size) for size in (1, 2))

    assert two.pace.dialogues_per_step == 2 * one.pace.dialogues_per_step


def test_one_alone_has_nothing_to_wait_for() -> None:
    """Announcing says nothing, sums are one's own."""
    ALONE.announce(Order("end"))

    assert ALONE.add_up([], 1.5) == 1.5
    assert ALONE.total(1.0, 2.0) == [1.0, 2.0]


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they meet; two on one GPU would be slower than one."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)

    with pytest.raises(DeviceMissing, match=r"4 processes .* there are 2: --processes 2"):
        Processes(0, 4)
