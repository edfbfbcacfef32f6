"""AdaLoRA: ranks are taken away, a resumed run takes the same ones, the result is plain LoRA."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from adapters.base import Base
from tests.training.conftest import MakePlan
from training.nn.adalora import FACTORS, RankAllocation, plain_lora
from training.nn.model import (
    adapter_state,
    load_adapter_state,
    load_model,
    save_adapter,
    summed_nll,
)
from training.nn.packing import pack
from training.planning.plan import Plan

CPU = torch.device("cpu")
ADALORA = (
    "lora.kind=adalora",
    "lora.r=4",
    "lora.alpha=8",
    "lora.dropout=0.0",
    "adalora.every=1",
    "quantization.kind=none",
    "training.max_steps=10",
)


@pytest.fixture
def plan(make_plan: MakePlan) -> Plan:
    return make_plan(*ADALORA)


def loaded(base: Base, plan: Plan) -> PeftModel:
    torch.manual_seed(0)
    return load_model(base, plan.recipe, CPU, plan.total_steps).train()


class Training:
    """The loop's part in AdaLoRA, with plain gradient descent."""

    def __init__(self, model: PeftModel, plan: Plan) -> None:
        self.model, self.plan = model, plan
        self.ranks = RankAllocation(model)
        self.parameters = [one for one in model.parameters() if one.requires_grad]
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.05)

    def steps(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            loss = summed_nll(self.model, pack(self.plan.step_examples(step - 1))) / 100
            (loss + self.ranks.penalty()).backward()
            self.optimizer.step()
            self.ranks.allocate(step)
            self.optimizer.zero_grad()


def kept_ranks(state: dict[str, torch.Tensor]) -> int:
    return sum(int(tensor.count_nonzero()) for name, tensor in state.items() if "lora_E" in name)


def test_ranks_go_until_each_projection_has_r_on_average(base: Base, plan: Plan) -> None:
    """It begins with half as many again, and ends with those asked for in all fourteen together."""
    training = Training(loaded(base, plan), plan)
    training.steps(1, 2)
    early = kept_ranks(adapter_state(training.model))
    training.steps(3, 10)

    assert plan.recipe.initial_r == 6
    assert early > 4 * 14
    assert kept_ranks(adapter_state(training.model)) == 4 * 14


def test_a_resumed_allocation_is_the_same_one(base: Base, plan: Plan) -> None:
    """Weights and the averages of importance are all that it depends on, also after the last
    ranks have gone.
    """
    straight = Training(loaded(base, plan), plan)
    straight.steps(1, 10)
    for last in (3, 8):
        stopped = Training(loaded(base, plan), plan)
        stopped.steps(1, last)
        resumed = Training(loaded(base, plan), plan)
        load_adapter_state(resumed.model, adapter_state(stopped.model))
        resumed.ranks.load(stopped.ranks.state())
        resumed.steps(last + 1, 10)

        ends = [adapter_state(one.model) for one in (straight, resumed)]
        assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_penalty_is_pefts_own(base: Base, plan: Plan) -> None:
    """PEFT adds it to the loss of its own forward, which the loop does not use."""
    model = loaded(base, plan)
    ids = torch.tensor([plan.train[0][0].ids])

    with_penalty = model(ids, labels=ids).loss
    without = model.get_base_model()(ids, labels=ids).loss

    torch.testing.assert_close(RankAllocation(model).penalty(), with_penalty - without)


def test_what_is_published_is_plain_lora_and_says_the_same(
    base: Base, plan: Plan, tmp_path: Path
) -> None:
    """Loaded by PEFT as an ordinary adapter, with no more ranks than the richest projection has."""
    training = Training(loaded(base, plan), plan)
    training.steps(1, 10)
    model = training.model.eval()
    state = adapter_state(model)
    save_adapter(model, state, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    again = PeftModel.from_pretrained(plain, tmp_path).eval()
    ids = torch.tensor([plan.train[0][0].ids])

    with torch.no_grad():
        ours, theirs = model(ids).logits, again(ids).logits

    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    config = again.peft_config["default"]
    most = max(int(one.count_nonzero()) for name, one in state.items() if "lora_E" in name)
    assert (config.peft_type, config.r, config.lora_alpha) == ("LORA", most, most)
    assert config.base_model_name_or_path == "tiny"


def test_a_projection_without_ranks_becomes_one_of_zeros() -> None:
    """And all of them may be: LoRA has at least one rank."""
    state = {
        f"layer.{factor}": torch.zeros(2, 1) if factor == "lora_E" else torch.ones(2, 2)
        for factor in FACTORS
    }

    plain = plain_lora(state, alpha=8.0)

    assert {name: tuple(one.shape) for name, one in plain.items()} == {
        "layer.lora_A.weight": (1, 2),
        "layer.lora_B.weight": (2, 1),
    }
    assert not any(one.any() for one in plain.values())


def test_without_adalora_nothing_happens(base: Base, make_plan: MakePlan) -> None:
    """Plain LoRA has no competition, no state of one, and takes none."""
    ranks = RankAllocation(load_model(base, make_plan().recipe, CPU))

    ranks.allocate(1)
    ranks.load(ranks.state())

    assert not ranks.is_on
    assert ranks.state() == {}
