"""Sampling: the distributions of transformers' processors, from one uniform number a token.

Every test holds for the torch sampler and for the native one.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from server.engine.draw import Draw
from server.engine.native.build import library
from server.engine.native.sampling import NativeSampler
from server.engine.sampling import Sampler, sample, sampler_for
from server.engine.sampling.filters import pick
from server.engine.sampling.reference import TOP_P_WINDOW, WINDOWS, window
from server.engine.types import SamplingParams
from tests.server.engine.drawing import SAMPLERS, Oracle, draw_of, sampler_of, tokens_of

VOCABULARY = 1500
DRAWS = 1000
HISTORY = (5, 17, 5, 900, 1499)


@pytest.fixture(params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> Sampler:
    """Each of the two ways."""
    return sampler_of(request.param) or pytest.skip("there is no C compiler")


def random_logits(seed: int, spread: float = 3.0, size: int = VOCABULARY) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator) * spread


def theirs(logits: torch.Tensor, sampling: SamplingParams) -> torch.Tensor:
    """The probabilities that transformers' ``generate`` draws from."""
    chain = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature != 1.0:
        chain.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        chain.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        chain.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        chain.append(MinPLogitsWarper(sampling.min_p))
    history = torch.tensor([HISTORY])
    return chain(history, logits.clone().unsqueeze(0)).softmax(-1)[0].double()


def ours(
    sampler: Sampler, logits: torch.Tensor, sampling: SamplingParams, draws: int = DRAWS
) -> torch.Tensor:
    """The shares of tokens over evenly spread uniforms: exact to 1 / draws at every edge."""
    counts = torch.zeros(VOCABULARY, dtype=torch.float64)
    rows = [draw_of(sampling, (at + 0.5) / draws, prompt=HISTORY) for at in range(draws)]
    for start in range(0, draws, 250):
        part = rows[start : start + 250]
        tokens = tokens_of(sampler(logits.repeat(len(part), 1), part))
        counts += torch.bincount(torch.tensor(tokens), minlength=VOCABULARY)
    return counts / draws


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"temperature": 0.3},
        {"top_k": 1},
        {"top_k": 20},
        {"top_k": 300},
        {"top_k": 5000},
        {"top_p": 0.5},
        {"top_p": 0.95, "temperature": 1.7},
        {"top_p": 0.0},
        {"min_p": 0.1},
        {"min_p": 1.0},
        {"top_k": 50, "top_p": 0.8, "temperature": 0.7},
        {"top_k": 50, "top_p": 0.99, "min_p": 0.05, "temperature": 1.5},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.6, "top_k": 30, "top_p": 0.9, "temperature": 2.0},
    ],
    ids=str,
)
def test_probabilities_are_those_of_transformers(
    sampler: Sampler, values: dict[str, float]
) -> None:
    """Same filters, same order, same weights."""
    sampling = SamplingParams(**values)
    logits = random_logits(1)
    expected = theirs(logits, sampling)
    found = ours(sampler, logits, sampling)
    assert (found - expected).abs().max() < 2 / DRAWS
    assert not found[expected == 0].any(), "a token that is filtered out was drawn"


def test_top_p_beyond_the_candidates_uses_the_whole_vocabulary(sampler: Sampler) -> None:
    """A flat distribution needs more tokens than any window holds, and gets them."""
    sampling = SamplingParams(top_p=0.9)
    logits = random_logits(2, spread=0.3)
    expected = theirs(logits, sampling)
    assert (expected > 0).sum() > TOP_P_WINDOW
    draws = 5 * DRAWS  # the least likely token that is kept is hit too
    found = ours(sampler, logits, sampling, draws)
    assert (found - expected).abs().max() < 2 / draws
    assert (found > 0).sum() > TOP_P_WINDOW


@pytest.mark.parametrize("equals", [4, 1400])
def test_ties_at_the_edge_of_top_k_are_all_kept(sampler: Sampler, equals: int) -> None:
    """As in transformers, top-k drops what is smaller than the k-th, not what equals it."""
    logits = torch.full((VOCABULARY,), -5.0)
    logits[50 : 50 + equals] = 2.0
    found = ours(sampler, logits, SamplingParams(top_k=2), draws=equals)
    assert found[50 : 50 + equals].tolist() == pytest.approx([1 / equals] * equals)


def test_of_equals_top_p_keeps_the_lower_ids(sampler: Sampler) -> None:
    """Where it cuts between tokens of one probability, the choice is always the same."""
    logits = torch.full((VOCABULARY,), -50.0)
    logits[[40, 300, 700, 1100]] = 2.0
    found = ours(sampler, logits, SamplingParams(top_p=0.6))
    assert found.nonzero().flatten().tolist() == [40, 300, 700]


def test_tokens_are_drawn_in_order_of_id(sampler: Sampler) -> None:
    """A larger number never gives a lower token, whatever the filters and whichever way is gone."""
    logits = random_logits(4, spread=1.0)
    for sampling in (SamplingParams(), SamplingParams(top_k=9), SamplingParams(top_p=0.9)):
        rows = [draw_of(sampling, at / 50) for at in range(50)]
        tokens = tokens_of(sampler(logits.repeat(50, 1), rows))
        assert tokens == sorted(tokens)
        assert len(set(tokens)) > 5


@pytest.mark.parametrize("temperature", [0.0, 1e-7])
def test_no_temperature_is_the_maximum(sampler: Sampler, temperature: float) -> None:
    """Greedy rows ignore their number and the filters, but not the penalty; lower ids win ties."""
    logits = random_logits(3)
    logits[5] = logits[900] = logits.max() + 1
    logits[[70, 1000]] = logits[5] - 0.5
    plain = draw_of(SamplingParams(temperature=temperature, top_p=0.1), 0.99, prompt=HISTORY)
    sampling = SamplingParams(temperature=temperature, repetition_penalty=9.0)
    penal = draw_of(sampling, 0.99, prompt=HISTORY)
    assert tokens_of(sampler(torch.stack([logits, logits]), [plain, penal])) == [5, 70]


KINDS = [
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=1.5),
    SamplingParams(top_k=3, logprobs=2),
    SamplingParams(top_k=400, top_p=0.7),
    SamplingParams(top_p=0.9, repetition_penalty=1.4),
    SamplingParams(top_p=0.95, temperature=5.0, logprobs=0),
    SamplingParams(min_p=0.2, frequency_penalty=1.0, presence_penalty=-1.0),
    SamplingParams(logit_bias={3: 9.0, 8: -9.0}, logprobs=7),
]


def test_rows_of_every_kind_do_not_touch_each_other(sampler: Sampler) -> None:
    """In a batch of all kinds, in any order, each row's result is bit for bit the one alone."""
    draws = [
        draw_of(kind, random.Random(at).random(), prompt=HISTORY, reply=(3, 3, at))
        for at, kind in enumerate(KINDS * 3)
    ]
    logits = torch.stack([random_logits(seed) for seed in range(len(draws))])
    alone = [sampler(logits[i : i + 1].clone(), [draw])[0] for i, draw in enumerate(draws)]
    assert sampler(logits.clone(), draws) == alone
    order = random.Random(1).sample(range(len(draws)), len(draws))
    assert sampler(logits[order], [draws[at] for at in order]) == [alone[at] for at in order]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [7, 100, VOCABULARY - 1])
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(temperature=0.0, logprobs=3),
        SamplingParams(top_k=3, top_p=0.5),
        SamplingParams(top_p=0.5),
    ],
    ids=str,
)
def test_values_that_are_no_numbers_give_no_token(
    sampler: Sampler, bad: float, place: int, sampling: SamplingParams
) -> None:
    """The row says so, and the row beside it is drawn as ever."""
    logits = torch.stack([random_logits(1), random_logits(2)])
    draws = [draw_of(sampling, 0.3), draw_of(sampling, 0.6)]
    expected = sampler(logits.clone(), draws)[1]
    logits[0, place] = bad
    broken, other = sampler(logits, draws)
    assert (broken.token, broken.logprobs, broken.failure) == (None, None, "not finite")
    assert other == expected


def test_no_row_to_sample_is_fine(sampler: Sampler) -> None:
    """A step that only computes a prompt's beginning draws nothing."""
    assert sampler(torch.empty(0, VOCABULARY), []) == []


# Masks


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("size", [1500, 1504, 31, 1])
def test_only_what_a_mask_allows_is_drawn(sampler: Sampler, temperature: float, size: int) -> None:
    """For vocabularies that are multiples of 32 and others, and in company of a free row."""
    logits = random_logits(5, size=size).repeat(2, 1)
    allowed = np.zeros(size, dtype=bool)
    allowed[-1] = allowed[size // 2] = True
    sampling = SamplingParams(temperature=temperature)
    rows = [draw_of(sampling, 0.5, allowed=allowed), draw_of(sampling, 0.5)]
    expected = sampler(logits[1:].clone(), rows[1:])
    for number in (0.0, 0.3, 0.9, 1 - 2**-53):
        rows[0] = draw_of(sampling, number, allowed=allowed)
        masked, free = sampler(logits.clone(), rows)
        assert allowed[masked.token]
        assert free == expected[0]


def test_a_mask_comes_before_every_filter(sampler: Sampler) -> None:
    """Top-k and top-p count among what is allowed, and a bias lifts nothing that is not."""
    logits = random_logits(6)
    allowed = np.zeros(VOCABULARY, dtype=bool)
    allowed[[7, 8, 9]] = True
    barred = int(logits.argmax())
    sampling = SamplingParams(top_k=2, top_p=0.99, logit_bias={barred: 100.0})
    draws = [draw_of(sampling, at / 50, allowed=allowed) for at in range(50)]
    found = set(tokens_of(sampler(logits.repeat(50, 1), draws)))
    best = sorted((7, 8, 9), key=lambda token: -logits[token])[:2]
    assert found == set(best)


def test_what_lies_beyond_a_mask_is_not_allowed(sampler: Sampler) -> None:
    """A tokenizer may know fewer tokens than the head has rows."""
    logits = random_logits(7)
    logits[1000] = 50.0
    draw = draw_of(SamplingParams(temperature=0.0), allowed=np.ones(640, dtype=bool))
    assert tokens_of(sampler(logits.unsqueeze(0), [draw])) == [int(logits[:640].argmax())]


@pytest.mark.parametrize("sampling", [SamplingParams(), SamplingParams(temperature=0.0, top_k=5)])
def test_where_nothing_is_allowed_the_row_says_so(
    sampler: Sampler, sampling: SamplingParams
) -> None:
    """And the row beside it is drawn as ever; also where mask and withheld tokens contradict."""
    logits = random_logits(8).repeat(3, 1)
    nothing, one = np.zeros(VOCABULARY, dtype=bool), np.zeros(VOCABULARY, dtype=bool)
    one[77] = True
    draws = [
        draw_of(sampling, allowed=nothing),
        draw_of(sampling),
        draw_of(sampling, allowed=one, withheld=[77]),
    ]
    expected = sampler(logits[1:2].clone(), draws[1:2])[0]
    barred, free, contradicted = sampler(logits, draws)
    assert (barred.token, barred.failure) == (None, "none allowed")
    assert (contradicted.token, contradicted.failure) == (None, "none allowed")
    assert free == expected


def test_withheld_tokens_do_not_come(sampler: Sampler) -> None:
    """Nor does an id that the base does not have do harm."""
    logits = random_logits(9)
    best = logits.argsort(descending=True)[:3].tolist()
    greedy = SamplingParams(temperature=0.0)
    draw = draw_of(greedy, withheld=[best[0], VOCABULARY + 5, best[1]])
    assert tokens_of(sampler(logits.unsqueeze(0), [draw])) == [best[2]]


# Any parameters at all

PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 2e-5, 0.3, 0.7, 1.7, 2.0]),
        "top_k": st.sampled_from([1, 2, 5, 20, 300, 1000, 19_999, 50_000]),
        "top_p": st.sampled_from([0.0, 0.01, 0.5, 0.8, 0.95, 0.999, 1.0]),
        "min_p": st.sampled_from([0.01, 0.1, 0.5, 1.0]),
        "repetition_penalty": st.sampled_from([0.7, 1.1, 2.0]),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "logprobs": st.integers(0, 20),
    },
)
ROWS = st.lists(
    st.tuples(PARAMETERS, st.floats(0, 1, exclude_max=True), st.booleans()), min_size=1, max_size=3
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=ROWS,
    seed=st.integers(0, 1 << 30),
    size=st.sampled_from([1, 5, 64, 65, 259, 3000, 20_000]),
    spread=st.sampled_from([0.0, 0.1, 0.6, 2.0, 30.0]),
    has_ties=st.booleans(),
)
def test_both_samplers_draw_what_the_obvious_way_draws(
    rows: list[tuple[dict[str, float], float, bool]],
    seed: int,
    size: int,
    spread: float,
    has_ties: bool,
) -> None:
    """Same edits bit for bit, same greedy token, same token unless the number is on an edge."""
    chance = random.Random(seed)
    logits = torch.stack([random_logits(seed + row, spread, size) for row in range(len(rows))])
    if has_ties:
        logits = logits.round()
    draws = [
        _any_draw(SamplingParams(**values), number, size, chance, is_masked)
        for values, number, is_masked in rows
    ]
    compare(logits, draws)


@pytest.mark.parametrize(("spread", "steps"), [(0.0, 0), (0.6, 0), (0.6, 2), (1.5, 0), (1.5, 8)])
def test_filters_that_reach_far_keep_what_the_obvious_way_keeps(spread: float, steps: int) -> None:
    """The same in a large vocabulary: flat, and with no ties, few, or more than there is room for.

    Without ``steps`` there are no ties; otherwise logits are rounded to so many a unit.
    """
    logits = random_logits(3, spread, 40_000)
    if steps:
        logits = (logits * steps).round() / steps
    compare(
        logits.repeat(3 * len(FAR), 1),
        [
            draw_of(SamplingParams(**values), number)
            for values in FAR
            for number in (0.0, 0.6, 0.99)
        ],
    )


FAR: list[dict[str, Any]] = [
    {"top_p": 0.3},
    {"top_p": 0.9, "temperature": 2.0},
    {"top_p": 0.99, "min_p": 0.3},
    {"top_p": 0.999, "temperature": 0.5},
    {"top_k": 3},
    {"top_k": 900, "top_p": 0.8},
    {"top_k": 3000, "top_p": 0.5, "min_p": 0.01},
    {"top_k": 20_000, "top_p": 0.99},
    {"top_k": 39_000, "min_p": 0.2},
]


def compare(logits: torch.Tensor, draws: list[Draw]) -> None:
    """Let both samplers draw, and the oracle judge."""
    native = sampler_of("native") or pytest.skip("there is no C compiler")
    by_torch, by_native = logits.clone(), logits.clone()
    for row, (one, other) in enumerate(
        zip(sample(by_torch, draws), native(by_native, draws), strict=True)
    ):
        assert one.failure == other.failure
        assert torch.equal(by_torch[row], by_native[row])
        if one.token is None or other.token is None:
            continue
        if draws[row].is_greedy:
            assert one.token == other.token == int(by_torch[row].argmax())
            continue
        oracle = Oracle(by_torch[row], draws[row])
        assert oracle.accepts(one.token)
        assert oracle.accepts(other.token)
        assert one.token == other.token or not oracle.is_sure_of(one.token)


def _any_draw(
    sampling: SamplingParams, number: float, size: int, chance: random.Random, is_masked: bool
) -> Draw:
    allowed = np.array([chance.random() < 0.3 for _ in range(size)]) if is_masked else None
    some = [chance.randrange(size) for _ in range(12)]
    bias = {token: chance.uniform(-5, 5) for token in some[:3]}
    values = {name: getattr(sampling, name) for name in SamplingParams.__slots__}
    return draw_of(
        SamplingParams(**values | {"logit_bias": bias}),
        number,
        prompt=some[2:8],
        reply=some[6:],
        allowed=allowed,
    )


def test_a_cpu_samples_natively_where_it_can() -> None:
    """Unless it is told not to; other devices use torch."""
    assert sampler_for(torch.device("cpu"), may_be_native=False) is sample
    assert sampler_for(torch.device("cuda")) is sample
    found = sampler_for(torch.device("cpu"))
    assert isinstance(found, NativeSampler) == (library() is not None)


# Parts of the torch sampler


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda weights: sum(weights) > 1e-6),
    st.floats(0, 1, exclude_max=True),
)
def test_what_is_picked_has_weight(weights: list[float], number: float) -> None:
    """No rounding at the edges ever picks what was filtered out."""
    row = torch.tensor([weights], dtype=torch.float64)
    index = int(pick(row, torch.tensor([[number]], dtype=torch.float64))[0])
    assert weights[index] > 0


def test_a_rows_window_depends_on_itself_alone() -> None:
    """Rows that need few candidates, many, or all are told apart; small vocabularies bound them."""
    assert window(SamplingParams(), 5000) == 0
    assert window(SamplingParams(min_p=0.5), 5000) == 0
    assert window(SamplingParams(top_p=0.9), 5000) == TOP_P_WINDOW
    assert window(SamplingParams(top_p=0.9), 100) == 100
    assert window(SamplingParams(top_k=40), 5000) == WINDOWS[0]
    assert window(SamplingParams(top_k=64), 5000) == WINDOWS[1]
    assert window(SamplingParams(top_k=9000), 5000) == 5000
