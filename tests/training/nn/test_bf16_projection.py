"""Projections as GPUs compute them in bf16, on a CPU, whose bf16 has the same formats."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adapters.base import Base
from tests.training.conftest import MakePlan
from tests.training.nn.test_projection import loss_and_gradients
from training.nn import bf16_projection
from training.nn.adalora import NAME
from training.nn.bf16_projection import Bf16Projection, Frozen
from training.nn.model import load_model, target_logits
from training.nn.packing import pack

CPU = torch.device("cpu")
BF16 = torch.bfloat16
IN_BF16 = "quantization.compute_dtype=bf16"
ROWS, INPUTS, OUTPUTS, RANK, SCALE = 50, 64, 48, 4, 2.0


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Projections in bf16 are computed as on a GPU."""
    monkeypatch.setattr(bf16_projection, "is_possible", lambda _device, dtype: dtype is BF16)


class Parts:
    """A projection's input, factors and base, and what it makes of them."""

    def __init__(self, device: torch.device = CPU) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(1, ROWS, INPUTS, device=device).to(BF16).requires_grad_()
        self.a = torch.randn(RANK, INPUTS, device=device).requires_grad_()
        self.b = torch.randn(OUTPUTS, RANK, device=device).requires_grad_()
        self.base = torch.nn.Linear(INPUTS, OUTPUTS, device=device, dtype=BF16)
        self.base.requires_grad_(False)

    @property
    def wanting(self) -> tuple[torch.Tensor, ...]:
        return self.x, self.a, self.b

    def frozen(self, share: float) -> Frozen:
        halves = self.a.detach().to(BF16), self.b.detach().to(BF16)
        return Frozen(*halves, self.base, SCALE, share, "no")

    def projected(self, share: float) -> torch.Tensor:
        found: torch.Tensor = Bf16Projection.apply(  # type: ignore[no-untyped-call]
            *self.wanting, self.frozen(share)
        )
        return found

    def formula(self, share: float) -> torch.Tensor:
        """In fp32, with the positions that the generator gives next."""
        kept = torch.empty(ROWS, INPUTS, dtype=torch.bool).bernoulli_(1 - share)
        low = self.x.float() * kept / (1 - share)
        weight, bias = self.base.weight.float(), self.base.bias.float()
        return self.x.float() @ weight.T + bias + SCALE * low @ self.a.T @ self.b.T


def off_by(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The length of the difference, as a share of what is wanted."""
    return ((found.float() - wanted.float()).norm() / wanted.float().norm()).item()


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_it_is_the_formula_up_to_rounding(share: float) -> None:
    """Result and all three gradients, with dropout and without; factors' gradients are fp32."""
    parts = Parts()
    torch.manual_seed(1)
    found = parts.projected(share)
    torch.manual_seed(1)
    wanted = parts.formula(share)

    given = torch.randn_like(wanted)
    ours = torch.autograd.grad(found, parts.wanting, given.to(BF16))
    theirs = torch.autograd.grad(wanted, parts.wanting, given.to(BF16).float())

    assert found.dtype is BF16
    assert [one.dtype for one in ours] == [BF16, torch.float32, torch.float32]
    assert off_by(found, wanted) < 2**-7
    assert all(off_by(one, other) < 2**-7 for one, other in zip(ours, theirs, strict=True))


def test_torch_knows_the_operations_of_a_gpu() -> None:
    """By shapes alone, since no CPU has products of bf16 in fp32."""
    parts = Parts(torch.device("meta"))

    parts.projected(0.3).sum().backward()

    assert parts.a.grad is not None
    assert parts.b.grad is not None
    assert (parts.a.grad.shape, parts.b.grad.shape) == (parts.a.shape, parts.b.shape)


class Launches(TorchDispatchMode):
    """The names of operations that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not func.is_view and name not in ("empty", "new_empty", "_unsafe_view"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_few_operations_are_launched() -> None:
    """With dropout five going forth, the base's among them, and seven going back."""
    parts = Parts(torch.device("meta"))
    frozen = parts.frozen(0.3)

    with Launches() as forth:
        found = Bf16Projection.apply(*parts.wanting, frozen)  # type: ignore[no-untyped-call]
    given = torch.ones_like(found)
    with Launches() as back:
        found.backward(given)

    assert forth.names == ["bernoulli_", "mul", "addmm", "addmm", "addmm_"]
    assert back.names == ["addmm", "mul", "mm", "mm", "mm", "mm", "addcmul_"]


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("kind", ["nf4", "none"])
def test_loss_and_gradients_are_pefts(base: Base, make_plan: MakePlan, kind: str) -> None:
    """Of a whole step, as near as factors in bf16 come to those in fp32."""
    plan = make_plan("lora.dropout=0.0", IN_BF16, f"quantization.kind={kind}")

    ours, gradients = loss_and_gradients(base, plan, is_fused=True)
    theirs, wanted = loss_and_gradients(base, plan, is_fused=False)

    assert ours == pytest.approx(theirs, rel=1e-2)
    assert gradients.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert 0 < off_by(gradients[name], gradient) < 4e-2, name


@pytest.mark.usefixtures("on_gpu")
def test_what_is_recomputed_is_what_was_computed(base: Base, make_plan: MakePlan) -> None:
    """With dropout too, checkpointing changes no bit."""
    shared = ("lora.dropout=0.3", IN_BF16)
    kept = make_plan(*shared, "training.gradient_checkpointing=false")
    again = make_plan(*shared, "training.gradient_checkpointing=true")

    loss, gradients = loss_and_gradients(base, kept, is_fused=True)
    other_loss, others = loss_and_gradients(base, again, is_fused=True)

    assert loss == other_loss
    assert all(torch.equal(gradient, others[name]) for name, gradient in gradients.items())


@pytest.mark.usefixtures("on_gpu")
def test_factors_that_change_are_seen(base: Base, make_plan: MakePlan) -> None:
    """Also where they change without torch's knowledge, as by bitsandbytes' optimisers; by the
    decoder's next forward, and by a projection that is asked alone.
    """
    plan = make_plan("quantization.kind=none", IN_BF16)
    torch.manual_seed(0)
    model = load_model(base, plan.recipe, CPU).eval()
    one = pack(plan.step_examples(0))
    projection = model.get_base_model().model.layers[0].mlp.up_proj
    x = torch.randn(3, 64, dtype=BF16)
    with torch.no_grad():
        before, alone_before = target_logits(model, one), projection(x)
        projection.lora_B[NAME].weight.data.fill_(0.5)

        alone, after = projection(x), target_logits(model, one)

        assert torch.equal(alone_before, projection.base_layer(x))
        assert not torch.equal(alone, alone_before)
        assert not torch.equal(after, before)
        projection.lora_B[NAME].weight.data.zero_()
        assert torch.equal(target_logits(model, one), before)


@pytest.mark.usefixtures("on_gpu")
def test_a_forward_that_breaks_off_leaves_nothing_behind(
    base: Base, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it, factors are read anew."""
    model = load_model(base, make_plan("quantization.kind=none", IN_BF16).recipe, CPU).eval()
    decoder = model.get_base_model().model
    projection = decoder.layers[0].mlp.up_proj

    def out_of_memory(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(decoder.layers[1], "forward", out_of_memory)
    with pytest.raises(MemoryError), torch.no_grad():
        decoder(torch.tensor([[1, 2]]))
    projection.lora_B[NAME].weight.data.fill_(0.5)

    x = torch.randn(3, 64, dtype=BF16)
    with torch.no_grad():
        assert not torch.equal(projection(x), projection.base_layer(x))


@pytest.mark.usefixtures("on_gpu")
def test_dora_stays_with_peft(base: Base, make_plan: MakePlan) -> None:
    """Nothing of it is rounded, and nothing stands in its way."""
    loss, gradients = loss_and_gradients(base, make_plan(IN_BF16, "lora.kind=dora"), is_fused=True)

    assert loss > 0
    assert gradients


def test_a_validation_may_be_the_first_to_ask() -> None:
    """As in a resumed training: what is tried needs gradients, where the asking forward has none.

    The answer holds for the whole process, so that the training would go on in fp32.
    """
    bf16_projection.is_right.cache_clear()
    with torch.no_grad():
        assert bf16_projection.is_right(CPU)
    bf16_projection.is_right.cache_clear()


def test_it_is_tried_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a device makes of it is compared with the formula; one that is off is not trusted."""
    bf16_projection.is_right.cache_clear()
    before = torch.get_rng_state()
    assert bf16_projection.is_right(CPU)
    assert torch.equal(torch.get_rng_state(), before)  # a training draws what it would have drawn

    in_fp32 = bf16_projection._in_fp32
    monkeypatch.setattr(bf16_projection, "_in_fp32", lambda *both: 1.2 * in_fp32(*both))
    bf16_projection.is_right.cache_clear()
    assert not bf16_projection.is_right(CPU)
    assert "LoRA in bf16 is 0.2 off its formula here and is not used" in caplog.text
    bf16_projection.is_right.cache_clear()


def test_other_devices_and_formats_are_computed_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU's results do not change, and fp16 keeps its factors in fp32."""
    gpu: Any = SimpleNamespace(type="cuda")
    monkeypatch.setattr(bf16_projection, "is_right", lambda _: True)

    assert bf16_projection.is_possible(gpu, BF16)
    assert not bf16_projection.is_possible(gpu, torch.float16)
    assert not bf16_projection.is_possible(CPU, BF16)
