"""Greedy replies beside those of transformers' own loop, alone and in batches."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters.base import Base, read_base
from tests.tiny import tiny_base
from training.scores.replies import end_tokens, greedy

PROMPTS = [[(7 * row + 3 * at) % 250 for at in range(3 + 5 * row)] for row in range(6)]


@pytest.fixture(scope="module")
def model(base: Base) -> Any:
    return AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)


def expected(model: Any, prompt: list[int], tokens: int) -> list[int]:
    """What transformers' own loop says to the prompt alone."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens
    )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_replies_are_those_of_transformers_in_any_batch(model: Any, rows: int) -> None:
    """Rows of several lengths are padded, and none of them notices."""
    found = greedy(model, PROMPTS, (), 12, rows=rows)

    assert [list(reply.ids) for reply in found] == [expected(model, one, 12) for one in PROMPTS]
    assert not any(reply.is_finished for reply in found)


def test_a_reply_stops_before_an_end_token_and_others_go_on(model: Any) -> None:
    """The token that ended a reply is not part of it."""
    whole = [expected(model, one, 12) for one in PROMPTS]
    end = whole[2][4]

    found = greedy(model, PROMPTS, {end}, 12)

    for reply, full in zip(found, whole, strict=True):
        cut = full.index(end) if end in full else len(full)
        assert list(reply.ids) == full[:cut]
        assert reply.is_finished == (end in full)


def test_nothing_is_drawn_and_the_mode_is_kept(model: Any) -> None:
    """A training that asks in between goes on as it would have."""
    before = torch.get_rng_state()
    model.train()

    greedy(model, PROMPTS[:2], (), 3)

    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_counts_replies(model: Any) -> None:
    """After every batch, to the end."""
    seen: list[tuple[int, int]] = []

    greedy(model, PROMPTS, (), 2, lambda *now: seen.append(now), rows=4)

    assert seen == [(4, 6), (6, 6)]


def test_ends_are_the_tokenizers_and_the_bases_own(base: Base, tmp_path: Any) -> None:
    """A base may name several in generation_config.json, as Qwen's do."""
    path = tiny_base(tmp_path / "other")
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 7]}))
    tokenizer = AutoTokenizer.from_pretrained(path)

    assert end_tokens(read_base(path, "other"), tokenizer) == {5, 7, tokenizer.eos_token_id}
