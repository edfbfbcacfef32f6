"""Biases and penalties, by hand and by the formulas of those that invented them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from server.engine.sampling import Sampler
from server.engine.types import SamplingParams
from tests.server.engine.drawing import SAMPLERS, draw_of, edited, sampler_of

LOGITS = torch.tensor([2.0, -1.0, 0.5, 3.0, 0.0])


@pytest.fixture(params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> Sampler:
    """Each of the two ways."""
    return sampler_of(request.param) or pytest.skip("there is no C compiler")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [2.0, -1.0, 0.5, 3.0, 0.0]),
        # token 0 is in the prompt alone, 1 in both, 2 twice in the reply, 4 once
        ({"repetition_penalty": 2.0}, [1.0, -2.0, 0.25, 3.0, 0.0]),
        ({"presence_penalty": 0.5}, [2.0, -1.5, 0.0, 3.0, -0.5]),
        ({"presence_penalty": -0.5}, [2.0, -0.5, 1.0, 3.0, 0.5]),
        ({"frequency_penalty": 0.5}, [2.0, -1.5, -0.5, 3.0, -0.5]),
        ({"logit_bias": {1: 4.0, 3: -100.0}}, [2.0, 3.0, 0.5, -97.0, 0.0]),
        # the bias comes first: token 1 is at 3 when it is divided by 2; then 0.5 and 0.25 go off
        (
            {
                "logit_bias": {1: 4.0},
                "repetition_penalty": 2.0,
                "frequency_penalty": 0.5,
                "presence_penalty": 0.25,
            },
            [1.0, 0.75, -1.0, 3.0, -0.75],
        ),
    ],
    ids=str,
)
def test_logits_by_hand(sampler: Sampler, values: dict[str, float], expected: list[float]) -> None:
    """Each penalty alone, the bias alone, and all in their order."""
    draw = draw_of(SamplingParams(**values), prompt=(0, 1, 0), reply=(2, 1, 4, 2))
    assert edited(sampler, LOGITS, draw).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(
    penalty=st.floats(0.1, 10),
    history=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    cut=st.integers(0, 12),
)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_repetition_penalty_is_that_of_transformers(
    name: str, penalty: float, history: list[int], cut: int
) -> None:
    """Over prompt and reply, however they are divided, and once a token."""
    sampler = sampler_of(name) or pytest.skip("there is no C compiler")
    draw = draw_of(
        SamplingParams(repetition_penalty=penalty), prompt=history[:cut], reply=history[cut:]
    )
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    expected = processor(torch.tensor([history]), LOGITS.clone().unsqueeze(0))[0]
    torch.testing.assert_close(edited(sampler, LOGITS, draw), expected)


@settings(max_examples=30, deadline=None)
@given(
    presence=st.floats(-2, 2),
    frequency=st.floats(-2, 2),
    prompt=st.lists(st.integers(0, 4), max_size=6),
    reply=st.lists(st.integers(0, 4), max_size=12),
)
@pytest.mark.parametrize("name", SAMPLERS)
def test_presence_and_frequency_penalty_are_those_of_openai(
    name: str, presence: float, frequency: float, prompt: list[int], reply: list[int]
) -> None:
    """mu[j] - c[j] * frequency - (c[j] > 0) * presence, where c counts the reply alone."""
    sampler = sampler_of(name) or pytest.skip("there is no C compiler")
    sampling = SamplingParams(presence_penalty=presence, frequency_penalty=frequency)
    found = edited(sampler, LOGITS, draw_of(sampling, prompt=prompt, reply=reply))
    counts = torch.bincount(torch.tensor(reply, dtype=torch.int64), minlength=5)
    expected = LOGITS - counts * frequency - (counts > 0) * presence
    torch.testing.assert_close(found, expected)


def test_what_is_forbidden_stays_forbidden(sampler: Sampler) -> None:
    """No bias and no negative penalty brings back a token that the model itself rules out."""
    logits = LOGITS.clone()
    logits[[1, 2]] = -torch.inf
    sampling = SamplingParams(
        logit_bias={1: 100.0}, presence_penalty=-2.0, repetition_penalty=0.1, temperature=0.0
    )
    draw = draw_of(sampling, prompt=(1,), reply=(1, 2, 2))
    assert edited(sampler, logits, draw)[[1, 2]].tolist() == [-torch.inf, -torch.inf]


@pytest.mark.parametrize("bias", [-100.0, 100.0])
def test_a_bias_of_a_hundred_is_a_ban_or_a_must(sampler: Sampler, bias: float) -> None:
    """As OpenAI describes the ends of the range, for logits of any usual size."""
    logits = torch.linspace(-20, 20, 500)
    token = 499 if bias < 0 else 0
    draw = draw_of(SamplingParams(logit_bias={token: bias}), 0.999)
    drawn = sampler(logits.unsqueeze(0), [draw])[0].token
    assert (drawn == token) == (bias > 0)
