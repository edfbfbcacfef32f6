"""Logprobs: log-softmax of the model's own logits, whatever is done to them afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from server.engine.sampling import Sampler
from server.engine.types import SamplingParams, TokenLogprobs
from tests.server.engine.drawing import SAMPLERS, draw_of, sampler_of

VOCABULARY = 1500


@pytest.fixture(params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> Sampler:
    """Each of the two ways."""
    return sampler_of(request.param) or pytest.skip("there is no C compiler")


def random_logits(rows: int, size: int = VOCABULARY) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(1)) * 4


def report(sampler: Sampler, logits: torch.Tensor, **values: object) -> TokenLogprobs:
    """What is said of one row, whose history has some tokens."""
    draw = draw_of(SamplingParams(**values), 0.7, prompt=(1, 2, 3), reply=(3, 4))
    found = sampler(logits.clone().unsqueeze(0), [draw])[0].logprobs
    assert found is not None
    return found


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"temperature": 0.0},
        {"temperature": 0.2, "top_k": 3, "top_p": 0.5, "min_p": 0.3},
        {"repetition_penalty": 3.0, "frequency_penalty": 2.0, "presence_penalty": 2.0},
        {"logit_bias": {7: 50.0, 8: -50.0}},
    ],
    ids=str,
)
def test_logprobs_are_the_models_own(sampler: Sampler, values: dict[str, object]) -> None:
    """Neither temperature, filters, penalties nor biases change them, only what is drawn."""
    logits = random_logits(1)[0]
    expected = logits.double().log_softmax(-1)
    found = report(sampler, logits, logprobs=20, **values)
    assert found.logprob == pytest.approx(float(expected[found.token]), abs=1e-5)
    best = expected.topk(20)
    assert [token for token, _ in found.alternatives] == best.indices.tolist()
    assert [value for _, value in found.alternatives] == pytest.approx(
        best.values.tolist(), abs=1e-5
    )
    if "logit_bias" in values:
        assert found.token == 7


def test_a_token_that_was_penalised_has_its_own_logprob(sampler: Sampler) -> None:
    """The one that is drawn may itself be in the history."""
    logits = random_logits(1)[0]
    logits[3] = logits.max() + 9
    found = report(sampler, logits, logprobs=1, temperature=0.0, frequency_penalty=2.0)
    expected = float(logits.double().log_softmax(-1)[3])
    assert (found.token, found.alternatives[0][0]) == (3, 3)
    assert found.logprob == pytest.approx(expected, abs=1e-5)


def test_a_mask_does_not_change_logprobs(sampler: Sampler) -> None:
    """What a grammar forbids still shows among the likeliest."""
    logits = random_logits(1)[0]
    allowed = np.zeros(VOCABULARY, dtype=bool)
    allowed[int(logits.argmin())] = True
    draw = draw_of(SamplingParams(logprobs=1), allowed=allowed, withheld=[5])
    drawn = sampler(logits.clone().unsqueeze(0), [draw])[0]
    assert drawn.token == int(logits.argmin())
    expected = logits.double().log_softmax(-1)
    assert drawn.logprobs.logprob == pytest.approx(float(expected.min()), abs=1e-5)
    assert drawn.logprobs.alternatives == (
        (int(logits.argmax()), pytest.approx(float(expected.max()), abs=1e-5)),
    )


def test_each_row_gets_as_many_as_it_asks_for(sampler: Sampler) -> None:
    """None, none beside the token, some, and no more than there are."""
    counts = [None, 0, 3, 20]
    draws = [draw_of(SamplingParams(logprobs=count)) for count in counts]
    found = [drawn.logprobs for drawn in sampler(random_logits(4), draws)]
    assert found[0] is None
    assert [len(each.alternatives) for each in found[1:]] == [0, 3, 20]
    assert len(report(sampler, random_logits(1, 5)[0], logprobs=20).alternatives) == 5


@pytest.mark.parametrize("equals", [8, 1400])
def test_of_equally_likely_tokens_the_lower_ids_are_named(sampler: Sampler, equals: int) -> None:
    """The same ones each time, also where there are more than any window holds."""
    logits = torch.full((VOCABULARY,), -3.0)
    logits[90 : 90 + equals] = 1.0
    found = report(sampler, logits, logprobs=5)
    assert [token for token, _ in found.alternatives] == [90, 91, 92, 93, 94]


def test_many_equals_are_no_hindrance(sampler: Sampler) -> None:
    """A vocabulary of one probability, larger than the native sampler's room for candidates."""
    found = report(sampler, torch.zeros(20_000), logprobs=3)
    assert [token for token, _ in found.alternatives] == [0, 1, 2]
    assert found.logprob == pytest.approx(-np.log(20_000), abs=1e-5)


def test_extreme_logits_keep_their_digits(sampler: Sampler) -> None:
    """Far from zero nothing overflows, and a certain token has a logprob of 0."""
    logits = torch.full((VOCABULARY,), -3e4)
    logits[[3, 9]] = torch.tensor([9e3, 8e3])
    found = report(sampler, logits, logprobs=2)
    assert found == TokenLogprobs(3, 0.0, ((3, 0.0), (9, -1000.0)))
