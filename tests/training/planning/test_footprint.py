"""The memory of a training, estimated: held to what was measured on CPUs and GPUs."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
import torch

from tests.training.conftest import MakePlan
from training.nn import flash
from training.planning.footprint import MIB, Footprint
from training.planning.forward import Forward
from training.planning.plan import Plan
from training.recipe import read_recipe
from training.synthetic.base import QWEN3_0_6B

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def plan(make_plan: MakePlan) -> Plan:
    """The default recipe, for a base of Qwen3-0.6B's shape."""
    found = make_plan(recipe=read_recipe("qwen3-0.6b-lccc"))
    return replace(found, base=msgspec.structs.replace(found.base, architecture=QWEN3_0_6B))


# Layers that compute again, tokens and targets of a forward; BENCHMARKS.md has the figures, in MiB.
ON_A_CPU = [
    (28, 128, 32, 1619),
    (28, 256, 192, 2188),
    (0, 256, 192, 2948),
    (0, 128, 32, 2229),
    (28, 512, 128, 2144),
    (14, 512, 128, 3086),
    (0, 512, 128, 4161),
    (28, 512, 16, 2130),
    (0, 512, 16, 3915),
    (28, 1024, 256, 2804),
    (14, 1024, 256, 4949),
    (0, 1024, 256, 6776),
]


@pytest.mark.parametrize(("layers", "tokens", "targets", "measured"), ON_A_CPU)
def test_a_training_on_a_cpu_takes_what_was_measured(
    plan: Plan, layers: int, tokens: int, targets: int, measured: int
) -> None:
    """Within 15 % on the safe side, and 3 % on the other."""
    footprint = Footprint(plan, CPU, torch.float32, Forward(tokens, targets))

    assert 0.97 <= footprint.total(layers) / MIB / measured <= 1.15


# Dialogues of 490 and of 7,580 tokens are packs of so many, by the benchmark's own.
ON_A_GPU = [
    (28, 342, 95, 906),
    (0, 342, 95, 1634),
    (28, 4770, 1670, 3901),
    (0, 4770, 1670, 15_356),
]


@pytest.mark.parametrize(("layers", "tokens", "targets", "measured"), ON_A_GPU)
def test_a_training_on_a_gpu_takes_what_was_measured(
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
    layers: int,
    tokens: int,
    targets: int,
    measured: int,
) -> None:
    """Of attention under a mask, as it was then."""
    monkeypatch.setattr(flash, "is_possible", lambda *_: False)
    footprint = Footprint(plan, GPU, torch.bfloat16, Forward(tokens, targets))

    assert 1.0 <= footprint.total(layers) / MIB / measured <= 1.15


def test_what_is_held_by_purpose_adds_up(plan: Plan) -> None:
    """A base in fewer bits, and a smaller optimiser, are seen in it."""
    footprint = Footprint(plan, CPU, torch.float32, Forward(512, 128))
    held = footprint.bytes_of(14)

    assert sum(held.values()) == footprint.total(14)
    assert all(size > 0 for size in held.values())
    for override, purpose in (
        ("training.optimizer=adamw_8bit", "lora, gradients and optimizer"),
        ("lora.dropout=0.0", "activations"),
    ):
        smaller = replace(plan, recipe=read_recipe("qwen3-0.6b-lccc", [override]))
        assert replace(footprint, plan=smaller).bytes_of(14)[purpose] < held[purpose]
    for override in ("quantization.kind=int8", "quantization.kind=none"):
        larger = replace(plan, recipe=read_recipe("qwen3-0.6b-lccc", [override]))
        assert replace(footprint, plan=larger).bytes_of(14)["base"] > held["base"]
