"""Attention of a whole pack in one call, with a formula in place of the GPU's kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from adapters.base import Base
from tests.training.conftest import MakePlan
from tests.training.nn.test_attention import packed
from training.nn import flash
from training.nn.attention import (
    NAME,
    attend_within_dialogues,
    block_mask,
    implementation,
    takes_flash,
)
from training.nn.model import load_model, summed_nll
from training.nn.packing import Pack, pack

CPU = torch.device("cpu")
BF16 = torch.bfloat16


def formula(  # noqa: PLR0913, PLR0917 # the kernel's interface
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_ends: torch.Tensor,
    key_ends: torch.Tensor,
    most_queries: int,
    most_keys: int,
    dropout: float,
    is_causal: bool,
    _debug: bool,
    *,
    scale: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
) -> tuple[torch.Tensor]:
    """What the kernel gives, a sequence after the other; the queries are the last of the keys."""
    assert is_causal
    assert window_size_right in (None, 0)
    sizes = query_ends.diff().tolist(), key_ends.diff().tolist()
    assert (max(sizes[0]), max(sizes[1])) == (most_queries, most_keys)
    parts = []
    split = (one.split(size) for one, size in zip((query, key), sizes, strict=True))
    for rows, keys, values in zip(*split, value.split(sizes[1]), strict=True):
        place = torch.arange(len(keys))
        distance = place[-len(rows) :, None] - place[None, :]
        mask = (distance >= 0) & (
            distance <= (len(keys) if window_size_left is None else window_size_left)
        )
        one = (part.transpose(0, 1)[None] for part in (rows, keys, values))
        found = scaled_dot_product_attention(
            *one, attn_mask=mask, scale=scale, enable_gqa=True, dropout_p=dropout
        )
        parts.append(found[0].transpose(0, 1))
    return (torch.cat(parts),)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Attention as on a GPU, with :func:`formula` for its kernel."""
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", formula)
    monkeypatch.setattr(flash, "is_possible", lambda *_: True)
    takes_flash.cache_clear()
    yield
    takes_flash.cache_clear()


def tokens(one: Pack, key_heads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random query, key and value of a pack, that want gradients."""
    torch.manual_seed(0)
    made = (torch.randn(1, heads, one.tokens, 8) for heads in (4, key_heads, key_heads))
    query, key, value = (tensor.requires_grad_() for tensor in made)
    return query, key, value


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("shared", [0, 5])
@pytest.mark.parametrize("key_heads", [2, 4])
def test_it_is_attention_under_the_packs_mask(
    shared: int, key_heads: int, window: int | None
) -> None:
    """Results and gradients, with and without a common beginning, fewer key heads, and a window
    that reaches back into the beginning.
    """
    one = packed(shared, 7, 3, 11)
    given = tokens(one, key_heads)
    spans = flash.Spans.of(one.lengths, one.shared, CPU)

    found, _ = attend_within_dialogues(
        torch.nn.Module(), *given, None, spans=spans, scaling=0.3, sliding_window=window
    )

    mask = block_mask(one, CPU)
    if window:
        mask &= one.position_ids[:, None] - one.position_ids[None, :] < window
    wanted = scaled_dot_product_attention(*given, attn_mask=mask, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(found, wanted.transpose(1, 2))
    weights = torch.randn_like(found)
    ours = torch.autograd.grad((found * weights).sum(), given)
    theirs = torch.autograd.grad((wanted.transpose(1, 2) * weights).sum(), given)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shared", [0, 5])
def test_the_kernel_takes_what_it_is_given(shared: int) -> None:
    """The real operation and its gradient, by shapes alone: torch knows these arguments."""
    one = packed(shared, 7, 3, 11)
    device = torch.device("meta")
    query, key, value = (part.detach().to(device, BF16).requires_grad_() for part in tokens(one, 2))

    found = flash.attend(
        query, key, value, flash.Spans.of(one.lengths, one.shared, device), scale=0.3, window=4
    )
    found.sum().backward()

    assert found.shape == (1, one.tokens, 4, 8)
    assert query.grad is not None
    assert key.grad is not None
    assert (query.grad.shape, key.grad.shape) == (query.shape, key.shape)


def loss_and_gradients(model: Any, one: Pack) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad()
    loss = summed_nll(model, one)
    loss.backward()
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return loss.item(), found


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_a_training_step_is_the_same(
    request: pytest.FixtureRequest,
    base: Base,
    make_plan: MakePlan,
    share: bool,
    checkpointing: str,
) -> None:
    """The loss of a pack and all gradients, also where layers are computed again."""
    plan = make_plan(
        "quantization.kind=none",
        "lora.dropout=0.0",
        f"training.gradient_checkpointing={checkpointing}",
    )
    torch.manual_seed(0)
    model = load_model(base, plan.recipe, CPU).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    one = pack(plan.step_examples(0), share=share)
    wanted, theirs = loss_and_gradients(model, one)

    request.getfixturevalue("on_gpu")
    found, ours = loss_and_gradients(model, one)

    assert found == pytest.approx(wanted, rel=1e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_what_the_kernel_does_not_compute_goes_the_old_way(
    monkeypatch: pytest.MonkeyPatch, base: Base, make_plan: MakePlan
) -> None:
    """Other devices, fp32, and heads of an odd width; a pack then has its mask."""
    assert not flash.is_possible(CPU, BF16)
    assert not flash.is_possible(torch.device("cuda"), torch.float32)
    assert implementation(torch.device("meta"), BF16) == "sdpa"
    plan = make_plan("quantization.kind=none")
    torch.manual_seed(0)
    model = load_model(base, plan.recipe, CPU).eval()
    core = model.get_base_model()
    assert flash.takes_heads(core.config)
    one = pack(plan.step_examples(0))
    wanted = summed_nll(model, one)

    monkeypatch.setattr("training.nn.attention.takes_flash", lambda *_: True)
    monkeypatch.setattr(flash, "takes_heads", lambda _: False)

    assert core.config._attn_implementation == NAME  # transformers has no public name
    torch.testing.assert_close(summed_nll(model, one), wanted)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_a_kernel_that_is_right_is_taken(dtype: torch.dtype) -> None:
    """Up to rounding to its format; and a training draws what it would have drawn."""
    before = torch.get_rng_state()
    assert takes_flash(CPU, dtype)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("on_gpu")
def test_a_validation_may_be_the_first_to_ask() -> None:
    """What is tried needs gradients, where the asking forward has none."""
    with torch.no_grad():
        assert takes_flash(CPU, BF16)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("fault", ["fails", "looks ahead", "is too large"])
def test_a_kernel_that_is_not_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """One that fails on this machine, or computes something else; the log says so."""

    def faulty(query: torch.Tensor, *given: Any, **named: Any) -> tuple[torch.Tensor]:
        if fault == "fails":
            raise RuntimeError("no kernel image is available")
        (found,) = formula(query, *given, **named)
        return (found.flip(0) if fault == "looks ahead" else 1.1 * found,)

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", faulty)

    assert not takes_flash(CPU, BF16)
    assert "The flash kernel's attention" in caplog.text
    assert "is not used" in caplog.text


@pytest.mark.parametrize(
    ("width", "is_taken"), [(64, True), (128, True), (192, True), (256, False), (36, False)]
)
def test_heads_that_the_kernel_computes(base: Base, width: int, is_taken: bool) -> None:
    """Multiples of eight, up to the width of which every GPU has gradients."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base.path)
    config.head_dim = width

    assert flash.takes_heads(config) == is_taken
