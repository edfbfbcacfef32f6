"""Sampling parameters that cannot be are refused, and the field is named."""

from __future__ import annotations

from typing import Any

import pytest

from server.engine.bounds import refuse_out_of_range
from server.engine.errors import SamplingInvalid
from server.engine.types import SamplingParams

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", NAN),
        ("temperature", INFINITY),
        ("top_p", -0.1),
        ("top_p", 1.5),
        ("top_p", NAN),
        ("top_k", -1),
        ("top_k", 2**31),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("min_p", NAN),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", 1e-50),
        ("repetition_penalty", INFINITY),
        ("presence_penalty", 2.1),
        ("presence_penalty", NAN),
        ("frequency_penalty", -2.1),
        ("logit_bias", {100: 1.0}),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {5: 100.5}),
        ("logit_bias", {5: NAN}),
        ("max_tokens", -1),
        ("min_tokens", -1),
        ("stop_token_ids", (3, -1)),
        ("stop_token_ids", (2**31,)),
        ("logprobs", -1),
        ("logprobs", 21),
        ("prompt_logprobs", -1),
        ("prompt_logprobs", 21),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    """Numbers beyond their ends, tokens beyond the vocabulary, and what is no number."""
    with pytest.raises(SamplingInvalid, match=rf"^{name}: ") as refused:
        refuse_out_of_range(SamplingParams(**{name: value}), 100)
    assert refused.value.field == name


def test_the_ends_of_every_range_are_taken() -> None:
    """Greedy and hot, every filter off and at its strictest."""
    low = SamplingParams(
        temperature=0.0,
        top_p=0.0,
        top_k=0,
        min_p=0.0,
        repetition_penalty=0.1,
        presence_penalty=-2.0,
        frequency_penalty=-2.0,
        logit_bias={0: -100.0},
        max_tokens=1,
        logprobs=0,
    )
    high = SamplingParams(
        temperature=1e9,
        top_p=1.0,
        top_k=2**31 - 1,
        min_p=1.0,
        repetition_penalty=10.0,
        presence_penalty=2.0,
        frequency_penalty=2.0,
        logit_bias={99: 100.0},
        max_tokens=7,
        min_tokens=7,
        stop_token_ids=(0, 2**31 - 1),
        logprobs=20,
    )
    for sampling in (low, high, SamplingParams()):
        refuse_out_of_range(sampling, 100)


def test_the_least_must_not_be_more_than_the_most() -> None:
    """``min_tokens`` above ``max_tokens`` could not be kept."""
    with pytest.raises(SamplingInvalid, match=r"^min_tokens: 8 is more than max_tokens, 7\.$"):
        refuse_out_of_range(SamplingParams(min_tokens=8, max_tokens=7), 100)
