"""The model that is trained: exact losses, gradients that survive evaluation, PEFT's own files."""

from __future__ import annotations

from pathlib import Path

import bitsandbytes
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from adapters.base import Architecture, Base
from tests.training.conftest import MakePlan
from training.errors import RecipeError
from training.nn.model import (
    adapter_state,
    compute_dtype,
    load_adapter_state,
    load_model,
    save_adapter,
    summed_nll,
    trainable,
)
from training.nn.packing import pack
from training.planning.plan import Plan, lora_parameters
from training.recipe import Lora
from training.scores.validation import validate

CPU = torch.device("cpu")
QWEN3_06B = Architecture(
    model_type="qwen3",
    hidden_size=1024,
    intermediate_size=3072,
    layers=28,
    heads=16,
    kv_heads=8,
    head_dim=128,
    vocab_size=151936,
    context_length=40960,
)


def gradients(model: PeftModel, plan: Plan) -> dict[str, torch.Tensor]:
    """LoRA's gradients of the first step, with B filled so that A gets some too."""
    model.zero_grad()
    examples = plan.step_examples(0)
    summed_nll(model, pack(examples)).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def loaded(base: Base, plan: Plan) -> PeftModel:
    """The plan's model with non-zero B, without dropout."""
    torch.manual_seed(0)
    model = load_model(base, plan.recipe, CPU).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    return model


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_gradients_are_the_same_after_an_evaluation(
    base: Base, make_plan: MakePlan, kind: str
) -> None:
    """The trap of bitsandbytes on CPUs with AVX512-BF16 is closed: evaluating in between neither
    silences nor changes a single LoRA gradient.
    """
    plan = make_plan(
        "lora.dropout=0.0",
        f"quantization.kind={kind}",
        "quantization.compute_dtype=bf16",
    )
    model = loaded(base, plan)
    before = gradients(model, plan)

    validate(model, plan.validation, plan.validation.characters)
    after = gradients(model, plan)

    assert len(before) == 2 * 2 * 7
    assert all(gradient.abs().sum() > 0 for gradient in before.values())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_no_quantised_layer_may_repack_itself(base: Base, make_plan: MakePlan) -> None:
    """The switch behind the trap is off in every layer, also on CPUs that would not spring it."""
    model = load_model(base, make_plan().recipe, CPU)
    quantised = [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]

    assert len(quantised) == 2 * 7
    assert not any(module.support_avx512bf16_for_cpu for module in quantised)


def test_nf4_double_quantisation_is_what_the_recipe_asks_for(
    base: Base, make_plan: MakePlan
) -> None:
    """The seven projections are NF4 with quantised constants; embedding and head are not."""
    model = load_model(base, make_plan().recipe, CPU)
    layer = model.get_base_model().model.layers[0].mlp.down_proj.base_layer

    assert layer.weight.quant_state.quant_type == "nf4"
    assert layer.weight.quant_state.nested
    assert layer.weight.dtype == torch.uint8
    assert model.get_base_model().lm_head.weight.is_floating_point()


def test_int8_holds_the_projections_in_a_byte_a_weight(base: Base, make_plan: MakePlan) -> None:
    """Embedding and head are not quantised, and the loss stays near the unquantised one."""
    plan = make_plan("quantization.kind=int8", "lora.dropout=0.0")
    model = load_model(base, plan.recipe, CPU)
    layer = model.get_base_model().model.layers[0].mlp.down_proj.base_layer
    plain = load_model(base, make_plan("quantization.kind=none").recipe, CPU)
    example = pack(plan.train[0])

    assert isinstance(layer, bitsandbytes.nn.Linear8bitLt)
    assert layer.weight.dtype == torch.int8
    assert model.get_base_model().lm_head.weight.is_floating_point()
    with torch.no_grad():
        ours, theirs = (summed_nll(one.eval(), example).item() for one in (model, plain))
    assert ours == pytest.approx(theirs, rel=0.02)


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "adalora"])
def test_only_lora_is_trained_and_counted(base: Base, make_plan: MakePlan, kind: str) -> None:
    """The trainable parameters are those of LoRA's kind, as many as the plan says."""
    plan = make_plan(f"lora.kind={kind}")
    model = load_model(base, plan.recipe, CPU)

    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]

    assert all("lora_" in name for name in names)
    assert sum(p.numel() for p in trainable(model)) == plan.trainable_parameters


def test_the_count_for_qwen3_06b_is_the_known_one() -> None:
    """Rank 16 on the seven projections of Qwen3-0.6B trains 10,092,544 parameters."""
    assert lora_parameters(QWEN3_06B, Lora()) == 10_092_544


def test_loss_equals_transformers_own(base: Base, make_plan: MakePlan) -> None:
    """The loss at target positions is that of the model's own forward with labels."""
    plan = make_plan("quantization.kind=none", "training.gradient_checkpointing=false")
    model = load_model(base, plan.recipe, CPU).eval()
    oracle = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()
    (one,) = plan.train[1]
    labels = [i if target else -100 for i, target in zip(one.ids, one.is_target, strict=True)]

    with torch.no_grad():
        ours = summed_nll(model, pack([one])).item() / one.targets
        theirs = oracle(torch.tensor([one.ids]), labels=torch.tensor([labels])).loss.item()

    assert ours == pytest.approx(theirs, rel=1e-5)


def test_one_padding_free_step_has_the_gradient_of_padded_accumulation(
    base: Base, make_plan: MakePlan
) -> None:
    """Eight dialogues in one row give the gradient of batch 2 x accumulation 4 with padding."""
    plan = make_plan(
        "quantization.kind=none",
        "lora.dropout=0.0",
        "training.batch_size=2",
        "training.gradient_accumulation=4",
        "training.gradient_checkpointing=false",
    )
    model = loaded(base, plan)
    ours = gradients(model, plan)
    examples = plan.step_examples(0)
    model.zero_grad()
    for start in range(0, len(examples), 2):
        batch = examples[start : start + 2]
        longest = max(len(one.ids) for one in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        labels = torch.full((len(batch), longest), -100)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, one in enumerate(batch):
            size = len(one.ids)
            ids[row, :size] = torch.tensor(one.ids)
            mask[row, :size] = 1
            targets = torch.tensor(one.is_target)
            labels[row, :size] = torch.where(targets, torch.tensor(one.ids), -100)
        loss = model(ids, attention_mask=mask, labels=labels, num_items_in_batch=1).loss
        loss.backward()

    assert ours
    for name, parameter in model.named_parameters():
        if name in ours:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_rslora_scales_by_the_root_of_the_rank(base: Base, make_plan: MakePlan) -> None:
    """And DoRA is PEFT's."""
    rslora = load_model(base, make_plan("lora.kind=rslora", "lora.r=4").recipe, CPU)
    dora = load_model(base, make_plan("lora.kind=dora").recipe, CPU)

    layer = rslora.get_base_model().model.layers[0].mlp.down_proj
    assert layer.scaling["default"] == pytest.approx(32 / 4**0.5)
    assert dora.peft_config["default"].use_dora


def test_neftune_adds_noise_that_fits_each_dialogue(base: Base, make_plan: MakePlan) -> None:
    """Uniform within alpha / sqrt(length x width), by the length of each dialogue in a pack; in
    training alone, and another one each time.
    """
    plan = make_plan("lora.dropout=0.0", "quantization.kind=none")
    model = load_model(base, plan.recipe, CPU).train()
    core = model.get_base_model().model
    seen: list[torch.Tensor] = []
    core.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].detach()))
    examples = plan.step_examples(0)[:2]
    both = pack(examples, share=False)

    for alpha in (0.0, 5.0, 5.0):
        summed_nll(model, both, alpha)
    model.eval()
    summed_nll(model, both, 5.0)

    clean, noisy, other, evaluated = seen
    assert torch.equal(evaluated, clean)
    assert not torch.equal(noisy, other)
    start = 0
    for length in both.lengths:
        end = start + length
        bound = 5.0 / (length * clean.shape[1]) ** 0.5
        largest = (noisy - clean)[start:end].abs().max().item()
        assert 0.99 * bound < largest <= bound * (1 + 1e-5)
        start = end


def test_gradient_checkpointing_changes_no_gradient(base: Base, make_plan: MakePlan) -> None:
    """Recomputing activations saves memory and nothing else."""
    shared = ("quantization.kind=none", "lora.dropout=0.0")
    plain = make_plan(*shared, "training.gradient_checkpointing=false")
    checkpointed = make_plan(*shared, "training.gradient_checkpointing=true")

    model = loaded(base, checkpointed)
    passes: list[int] = []
    layer = model.get_base_model().model.layers[0].mlp.gate_proj
    layer.register_forward_pre_hook(lambda *_: passes.append(1))

    one = gradients(loaded(base, plain), plain)
    other = gradients(model, checkpointed)

    assert len(passes) == 2  # forward, and once more for the backward

    assert one.keys() == other.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name])


def test_a_saved_adapter_loads_with_peft_and_says_the_same(
    base: Base, make_plan: MakePlan, tmp_path: Path
) -> None:
    """What is written is an ordinary PEFT directory that names the base, not a path."""
    plan = make_plan("quantization.kind=none")
    model = loaded(base, plan).eval()
    save_adapter(model, adapter_state(model), tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    again = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    ids = torch.tensor([plan.train[0][0].ids])

    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, again(ids).logits)
    assert again.peft_config["default"].base_model_name_or_path == "tiny"


def test_adapter_state_goes_back_where_it_came_from(base: Base, make_plan: MakePlan) -> None:
    """A checkpoint's tensors restore the very weights; a foreign tensor is refused."""
    plan = make_plan()
    model = loaded(base, plan)
    state = adapter_state(model)
    with torch.no_grad():
        for parameter in trainable(model):
            parameter.zero_()

    load_adapter_state(model, state)

    assert all(torch.equal(state[name], now) for name, now in adapter_state(model).items())
    with pytest.raises(ValueError, match="unexpected"):
        load_adapter_state(
            model, {**state, "base_model.model.stranger.lora_A.weight": state.popitem()[1]}
        )


def test_fp16_on_a_cpu_is_refused(base: Base, make_plan: MakePlan) -> None:
    """A dtype that the device cannot train in is refused by its field."""
    plan = make_plan("quantization.compute_dtype=fp16")

    with pytest.raises(RecipeError, match=r"quantization\.compute_dtype"):
        load_model(base, plan.recipe, CPU)


def test_auto_takes_bf16_only_where_it_is_quicker(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, with AVX512-BF16 or AMX, for bases that are not small; names mean themselves."""
    small, large = base.architecture, QWEN3_06B
    monkeypatch.setattr("training.nn.model.cpu_computes_bf16", lambda: False)
    assert compute_dtype("auto", CPU, large) is torch.float32
    monkeypatch.setattr("training.nn.model.cpu_computes_bf16", lambda: True)
    assert compute_dtype("auto", CPU, large) is torch.bfloat16
    assert compute_dtype("auto", CPU, small) is torch.float32
    assert compute_dtype("bf16", CPU, small) is torch.bfloat16
    assert compute_dtype("fp32", CPU, large) is torch.float32
