"""Attention within dialogues equals attention under a mask over the whole pack."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from adapters.base import Base
from tests.training.conftest import MakePlan
from training.data.encode import Example
from training.errors import RecipeError
from training.nn.attention import attend_within_dialogues, block_mask
from training.nn.model import load_model, target_logits
from training.nn.packing import Pack, pack

CPU = torch.device("cpu")


def packed(shared: int, *own: int) -> Pack:
    """Sequences of random tokens with ``shared`` common ones before ``own`` of each."""
    chance = torch.Generator().manual_seed(0)
    first = list(range(shared))
    made = []
    for number, length in enumerate(own):
        rest = [100 + number, *torch.randint(200, 250, (length - 1,), generator=chance).tolist()]
        made.append(Example(first + rest, [False] * (shared + length - 1) + [True]))
    return pack(made)


@pytest.mark.parametrize("shared", [0, 5])
@pytest.mark.parametrize("key_heads", [2, 4])
def test_it_is_attention_under_the_packs_mask(shared: int, key_heads: int) -> None:
    """With and without a common beginning, with as many key heads as heads and with fewer."""
    torch.manual_seed(0)
    one = packed(shared, 7, 3, 11)
    assert one.shared == shared
    query = torch.randn(1, 4, one.tokens, 8)
    key, value = torch.randn(2, 1, key_heads, one.tokens, 8)

    found, _ = attend_within_dialogues(
        torch.nn.Module(), query, key, value, None, lengths=one.lengths, shared=shared, scaling=0.3
    )

    mask = block_mask(one, CPU)
    wanted = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(found, wanted.transpose(1, 2))


def test_a_sliding_window_is_kept_to() -> None:
    """A token sees the last ``sliding_window`` of its own dialogue, itself among them."""
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 12, 8)

    found, _ = attend_within_dialogues(
        torch.nn.Module(), query, key, value, None, lengths=(9, 3), sliding_window=4
    )

    for start, end in ((0, 9), (9, 12)):
        place = torch.arange(end - start)
        distance = place[:, None] - place[None, :]
        mask = (distance >= 0) & (distance < 4)
        part = (part[:, :, start:end] for part in (query, key, value))
        wanted = scaled_dot_product_attention(*part, attn_mask=mask).transpose(1, 2)
        torch.testing.assert_close(found[:, start:end], wanted)


@pytest.mark.parametrize("share", [False, True])
def test_gpus_way_gives_the_same_logits(base: Base, make_plan: MakePlan, share: bool) -> None:
    """Attention under a mask of the whole pack, by transformers, and ours by dialogues."""
    plan = make_plan("quantization.kind=none")
    torch.manual_seed(0)
    model = load_model(base, plan.recipe, CPU).eval()
    one = pack(plan.step_examples(0), share=share)
    assert (one.shared > 0) == share

    with torch.no_grad():
        ours = target_logits(model, one)
        model.get_base_model().set_attn_implementation("sdpa")
        theirs = target_logits(model, one)

    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_a_window_and_a_shared_beginning_are_refused_on_gpus(
    base: Base, make_plan: MakePlan
) -> None:
    """Where the mask would be wrong, the field to change is named."""
    plan = make_plan("quantization.kind=none")
    model = load_model(base, plan.recipe, CPU).eval()
    core = model.get_base_model()
    core.set_attn_implementation("sdpa")
    one = pack(plan.step_examples(0))
    longest = one.shared + max(one.lengths)

    core.config.sliding_window = longest
    target_logits(model, one)  # the last token sees just so many, itself among them
    core.config.sliding_window = longest - 1
    with pytest.raises(RecipeError, match=r"training\.share_prefix=false"):
        target_logits(model, one)
