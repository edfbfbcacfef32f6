"""Sampling: the distributions of transformers' processors, from one uniform number a token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from server.engine.sampling import CANDIDATES, Draw, pick, sample, uniform, window
from server.engine.types import SamplingParams

VOCABULARY = 1500
DRAWS = 1000
HISTORY = torch.tensor([5, 17, 5, 900, 1499])


def random_logits(seed: int, spread: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(VOCABULARY, generator=generator) * spread


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
    return chain(HISTORY.unsqueeze(0), logits.clone().unsqueeze(0)).softmax(-1)[0].double()


def ours(logits: torch.Tensor, sampling: SamplingParams, draws: int = DRAWS) -> torch.Tensor:
    """The shares of tokens over evenly spread uniforms: exact to 1 / draws at every edge."""
    counts = torch.zeros(VOCABULARY, dtype=torch.float64)
    rows = [Draw(sampling, (index + 0.5) / draws, HISTORY) for index in range(draws)]
    for start in range(0, draws, 250):
        part = rows[start : start + 250]
        tokens = sample(logits.repeat(len(part), 1), part)
        counts += torch.bincount(torch.tensor(tokens), minlength=VOCABULARY)
    return counts / draws


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"temperature": 0.3},
        {"top_k": 1},
        {"top_k": 20},
        {"top_k": 5000},
        {"top_p": 0.5},
        {"top_p": 0.95, "temperature": 1.7},
        {"top_p": 0.0},
        {"top_k": 50, "top_p": 0.8, "temperature": 0.7},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.6, "top_k": 30, "top_p": 0.9, "temperature": 2.0},
    ],
    ids=str,
)
def test_probabilities_are_those_of_transformers(values: dict[str, float]) -> None:
    """Same filters, same order, same weights."""
    sampling = SamplingParams(**values)
    logits = random_logits(1)
    expected = theirs(logits, sampling)
    found = ours(logits, sampling)
    assert (found - expected).abs().max() < 2 / DRAWS
    assert not found[expected == 0].any(), "a token that is filtered out was drawn"


def test_top_p_beyond_the_candidates_uses_the_whole_vocabulary() -> None:
    """A flat distribution needs more tokens than the candidates hold, and gets them."""
    sampling = SamplingParams(top_p=0.9)
    logits = random_logits(2, spread=0.3)
    expected = theirs(logits, sampling)
    assert (expected > 0).sum() > CANDIDATES
    draws = 5 * DRAWS  # the least likely token that is kept is hit too
    found = ours(logits, sampling, draws)
    assert (found - expected).abs().max() < 2 / draws
    assert (found > 0).sum() > CANDIDATES


def test_ties_at_the_edge_of_top_k_are_all_kept() -> None:
    """As in transformers, top-k drops what is smaller than the k-th, not what equals it."""
    logits = torch.full((VOCABULARY,), -5.0)
    logits[100:104] = 2.0
    found = ours(logits, SamplingParams(top_k=2))
    assert found[100:104].tolist() == pytest.approx([0.25] * 4, abs=1e-3)


@pytest.mark.parametrize("temperature", [0.0, 1e-7])
def test_no_temperature_is_the_maximum(temperature: float) -> None:
    """Greedy rows ignore their number and the filters, but not the penalty."""
    logits = random_logits(3)
    logits[5] = logits.max() + 1
    plain = Draw(SamplingParams(temperature=temperature, top_p=0.1), 0.99, HISTORY)
    penal = Draw(SamplingParams(temperature=temperature, repetition_penalty=9.0), 0.99, HISTORY)
    expected = int(logits.index_fill(0, torch.tensor([5]), -99.0).argmax())
    assert sample(torch.stack([logits, logits]), [plain, penal]) == [5, expected]


def test_rows_of_every_kind_do_not_touch_each_other() -> None:
    """In one batch of all kinds, each row's token is the one it gets alone."""
    kinds = [
        SamplingParams(temperature=0.0),
        SamplingParams(temperature=1.5),
        SamplingParams(top_k=3),
        SamplingParams(top_k=400, top_p=0.7),
        SamplingParams(top_p=0.9, repetition_penalty=1.4),
        SamplingParams(top_p=0.95, temperature=5.0),
    ]
    draws = [Draw(kind, uniform(9, at), HISTORY) for at, kind in enumerate(kinds * 3)]
    logits = torch.stack([random_logits(seed) for seed in range(len(draws))])
    alone = [sample(logits[i : i + 1].clone(), [draw])[0] for i, draw in enumerate(draws)]
    assert sample(logits.clone(), draws) == alone


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "sampling",
    [SamplingParams(), SamplingParams(temperature=0.0), SamplingParams(top_k=3, top_p=0.5)],
    ids=str,
)
def test_values_that_are_no_numbers_give_no_token(bad: float, sampling: SamplingParams) -> None:
    """The row says so, and the row beside it is drawn as ever."""
    logits = torch.stack([random_logits(1), random_logits(2)])
    draws = [Draw(sampling, 0.3, HISTORY), Draw(sampling, 0.6, HISTORY)]
    expected = sample(logits.clone(), draws)[1]
    logits[0, 7] = bad
    assert sample(logits, draws) == [None, expected]


def test_no_row_to_sample_is_fine() -> None:
    """A step that only computes a prompt's beginning draws nothing."""
    assert sample(torch.empty(0, VOCABULARY), []) == []


@given(st.integers(), st.integers(0, 1 << 40))
def test_uniforms_are_numbers_from_zero_to_one_and_repeatable(seed: int, position: int) -> None:
    """Any seed that a user may send gives the same number each time."""
    number = uniform(seed, position)
    assert 0 <= number < 1
    assert number == uniform(seed, position)


def test_uniforms_are_evenly_spread() -> None:
    """Neighbouring positions and seeds give unrelated numbers: every tenth is hit alike."""
    numbers = [uniform(seed, position) for seed in range(100) for position in range(100)]
    tenths = torch.histc(torch.tensor(numbers), bins=10, min=0, max=1)
    assert tenths.min() > 900
    assert tenths.max() < 1100


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda weights: sum(weights) > 1e-6),
    st.floats(0, 1, exclude_max=True),
)
def test_what_is_picked_has_weight(weights: list[float], number: float) -> None:
    """No rounding at the edges ever picks what was filtered out."""
    row = torch.tensor([weights], dtype=torch.float64)
    index = int(pick(row, torch.tensor([number], dtype=torch.float64))[0])
    assert weights[index] > 0


def test_a_rows_window_depends_on_itself_alone() -> None:
    """Rows that need few candidates, many, or all are told apart; small vocabularies bound them."""
    assert window(SamplingParams(), 5000) == 0
    assert window(SamplingParams(top_p=0.9), 5000) == CANDIDATES
    assert window(SamplingParams(top_p=0.9), 100) == 100
    assert 40 <= window(SamplingParams(top_k=40), 5000) < CANDIDATES
    assert window(SamplingParams(top_k=9000), 5000) == 5000
