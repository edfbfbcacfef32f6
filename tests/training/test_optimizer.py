"""Optimisers and schedules by name."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, get_args

import msgspec
import pytest
import torch

from training import optimizer as optimizer_module
from training.errors import RecipeError
from training.optimizer import OPTIMIZERS, Paging, make_optimizer, schedule
from training.recipe import OptimizerName, Scheduler, Training


class Factors(torch.nn.Module):
    """A LoRA layer's two factors, large enough for eight bits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lora_A = torch.nn.ParameterDict({"default": torch.randn(64, 128)})
        self.lora_B = torch.nn.ParameterDict({"default": torch.randn(128, 64)})
        self.frozen = torch.nn.Parameter(torch.ones(4), requires_grad=False)

    def state(self) -> list[torch.Tensor]:
        return [one.detach().clone() for one in self.parameters() if one.requires_grad]


def training(name: str = "adamw", **values: Any) -> Training:
    return Training(optimizer=name, **{"learning_rate": 0.01, **values})  # type: ignore[arg-type]


def make(model: torch.nn.Module, settings: Training, plus: float = 1.0) -> torch.optim.Optimizer:
    return make_optimizer(model, settings, plus)  # type: ignore[arg-type]


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    """One update with the gradients of step ``number``."""
    source = torch.Generator().manual_seed(number)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=source)
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_every_optimizer_goes_on_exactly_where_it_was(name: str) -> None:
    """Also without a GPU: what a checkpoint keeps of it is all it needs, and no larger than
    estimated.
    """
    straight, broken_off = Factors(), Factors()
    optimizers = [make(one, training(name)) for one in (straight, broken_off)]
    for number in range(6):
        step(straight, optimizers[0], number)
    for number in range(3):
        step(broken_off, optimizers[1], number)
    held = io.BytesIO()
    torch.save(optimizers[1].state_dict(), held)
    held.seek(0)

    again = make(broken_off, training(name))
    again.load_state_dict(torch.load(held, weights_only=True))
    for number in range(3, 6):
        step(broken_off, again, number)

    ends = straight.state()
    assert all(torch.equal(one, other) for one, other in zip(ends, broken_off.state(), strict=True))
    assert not torch.equal(ends[0], Factors().state()[0])
    states = [value for one in again.state.values() for value in one.values()]
    size = sum(one.numel() * one.element_size() for one in states if isinstance(one, torch.Tensor))
    assert size <= OPTIMIZERS[name].state_bytes * 2 * 64 * 128 + 64  # type: ignore[index]


def test_every_name_has_its_optimizer() -> None:
    """What a recipe may say is what there is."""
    assert tuple(OPTIMIZERS) == get_args(OptimizerName)


def test_the_paged_optimizer_is_adamw() -> None:
    """Bitsandbytes' 32-bit AdamW takes the steps of torch's."""
    ends = []
    for name in ("paged_adamw_32bit", "adamw"):
        model = Factors()
        optimizer = make(model, training(name))
        for number in range(5):
            step(model, optimizer, number)
        ends.append(model.state()[0])

    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)


class OnGpu(torch.nn.Module):
    """Weights of ``size`` parameters that say they are on a GPU."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def parameters(self, recurse: bool = True) -> Any:
        where = SimpleNamespace(type="cuda")
        yield SimpleNamespace(requires_grad=False, device=where, numel=lambda: 10**9)
        yield SimpleNamespace(requires_grad=True, device=where, numel=lambda: self.size)


@pytest.mark.parametrize(("left", "is_needed"), [(3199, True), (3200, False)])
def test_states_are_paged_where_the_gpu_is_short_of_memory(
    monkeypatch: pytest.MonkeyPatch, left: int, is_needed: bool
) -> None:
    """AdamW's 8 bytes for each of 100 trained parameters may take a quarter of what is free; the
    optimiser is made accordingly, and the run's log says so.
    """
    monkeypatch.setattr(optimizer_module, "memory_left", lambda _device: left)

    paging = Paging.of(OnGpu(100), "paged_adamw_32bit")

    assert paging == (800, left)
    assert paging.is_needed == is_needed
    assert ("are paged" in paging.sentence("paged_adamw_32bit")) == is_needed
    made: Any = make_optimizer(Factors(), training("paged_adamw_32bit"), 1.0, paging)  # type: ignore[arg-type]
    assert made.is_paged == is_needed
    with_plus: Any = make_optimizer(Factors(), training("paged_lion_8bit"), 4.0, paging)  # type: ignore[arg-type]
    assert with_plus.is_paged == is_needed


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "lion_32bit"])
def test_other_optimizers_never_page(name: OptimizerName) -> None:
    """Nor is anything asked of the GPU."""
    assert Paging.of(OnGpu(100), name) is None


def test_on_a_cpu_nothing_is_paged() -> None:
    """There is no other memory to page to."""
    assert Paging.of(Factors(), "paged_adamw_32bit") is None


@pytest.mark.parametrize("name", ["paged_adamw_32bit", "adamw_8bit", "adamw", "lion_32bit"])
def test_loraplus_lets_b_learn_faster(name: str) -> None:
    """Its group has the multiple of the rate, the weight decay is the recipe's, nothing is lost."""
    model = Factors()

    optimizer = make(model, training(name, weight_decay=0.25), 16.0)

    groups = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert groups == {
        id(model.lora_A["default"]): (0.01, 0.25),
        id(model.lora_B["default"]): (pytest.approx(0.16), 0.25),
    }
    step(model, optimizer, 0)


def factors(steps: int, total: int, **values: Any) -> list[float]:
    factor = schedule(Training(**values), total)
    return [factor(step) for step in range(steps)]


def test_the_usual_schedules() -> None:
    """Constant stays, linear and cosine end at zero."""
    assert factors(5, 4, scheduler="constant") == [1.0] * 5
    assert factors(5, 4, scheduler="linear") == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert factors(5, 4, scheduler="cosine") == pytest.approx([1.0, 0.8535534, 0.5, 0.1464466, 0.0])


def test_a_warm_up_rises_from_above_zero_and_takes_its_steps_from_the_rest() -> None:
    """The first step is not lost."""
    assert factors(5, 100, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors(6, 6, scheduler="linear", warmup_steps=2) == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("cosine_with_restarts", {"num_cycles": 2.0}, [1.0, 0.5, 1.0, 0.5]),
        ("cosine_with_min_lr", {"min_lr_rate": 0.5}, [1.0, 0.9267767, 0.75, 0.5732233]),
        ("polynomial", {"power": 2.0, "lr_end": 0.0}, [1.0, 0.5625, 0.25, 0.0625]),
        ("inverse_sqrt", {"timescale": 3.0}, [1.0, 0.8660254, 0.7745967, 0.7071068]),
        ("warmup_stable_decay", {"num_decay_steps": 2.0}, [1.0, 1.0, 1.0, 0.5]),
    ],
)
def test_transformers_schedules_take_their_options(
    name: Scheduler, options: dict[str, float], expected: list[float]
) -> None:
    """Counts are whole numbers for them, though TOML has them as it likes."""
    found = factors(4, 4, scheduler=name, scheduler_options=options)

    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("constant", {"num_cycles": 2.0}),
        ("linear", {"num_cycles": 2.0}),
        ("warmup_stable_decay", {}),
        ("cosine_with_min_lr", {}),
        ("polynomial", {"lr_end": 1.0}),
        ("cosine", {"last_epoch": 3.0}),
    ],
)
def test_options_that_a_scheduler_does_not_take_are_refused(
    name: Scheduler, options: dict[str, float]
) -> None:
    """Or that it needs; by the name of the field."""
    settings = msgspec.structs.replace(Training(), scheduler=name, scheduler_options=options)

    with pytest.raises(RecipeError, match=r"^training\.scheduler_options: "):
        schedule(settings, 10)


def test_every_scheduler_of_a_recipe_exists() -> None:
    """Each name gives a factor at every step, also for a training of one step."""
    needed = {
        "warmup_stable_decay": {"num_decay_steps": 1.0},
        "cosine_with_min_lr": {"min_lr": 0.0},
    }
    for name in get_args(Scheduler):
        for total in (1, 7):
            found = factors(total, total, scheduler=name, scheduler_options=needed.get(name, {}))
            assert all(0.0 <= factor <= 1.0 for factor in found)
            assert found[0] == 1.0
