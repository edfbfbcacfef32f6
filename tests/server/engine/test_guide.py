"""What guides a reply from token to token: numbers, history, ends, and a grammar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.draw import uniform
from server.engine.guide import Guide
from server.engine.history import History
from server.engine.types import SamplingParams
from tests.server.engine.drawing import packed

END = 9


def guide_of(prompt: Sequence[int] = (1, 2, 1), seed: int = 5, **values: object) -> Guide:
    grammar = values.pop("grammar", None)
    sampling = SamplingParams(**values)
    return Guide(sampling, seed=seed, prompt=prompt, end_tokens={END}, grammar=grammar)


def counts_of(history: History | None) -> dict[int, int]:
    assert history is not None
    return dict(zip(history.ids, history.counts, strict=True))


class Spelling:
    """A grammar that allows ``tokens``, one after the other."""

    def __init__(self, tokens: Iterable[int]) -> None:
        self.left = list(tokens)

    def mask(self) -> np.ndarray | None:
        return packed(np.arange(10) == self.left[0])

    def accept(self, token: int) -> None:
        assert token == self.left.pop(0)

    @property
    def is_finished(self) -> bool:
        return not self.left


@given(st.integers(), st.integers(0, 1 << 40))
def test_uniforms_are_numbers_from_zero_to_one_and_repeatable(seed: int, position: int) -> None:
    """Any seed that a user may send gives the same number each time."""
    number = uniform(seed, position)
    assert 0 <= number < 1
    assert number == uniform(seed, position)


def test_uniforms_are_evenly_spread() -> None:
    """Neighbouring positions and seeds give unrelated numbers: every tenth is hit alike."""
    numbers = [uniform(seed, position) for seed in range(100) for position in range(100)]
    tenths = np.histogram(numbers, bins=10, range=(0, 1))[0]
    assert tenths.min() > 900
    assert tenths.max() < 1100


def test_the_number_depends_on_seed_and_position_alone() -> None:
    """The position counts prompt and reply; what the tokens are does not matter."""
    one, other = guide_of(), guide_of((8, 8, 8, 8))
    for token in (3, 4):
        one.accept(token)
    other.accept(7)
    assert one.draw().uniform == other.draw().uniform == uniform(5, 5)
    assert guide_of(seed=6).draw().uniform != guide_of().draw().uniform


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"repetition_penalty": 1.1}, {1: 0, 2: 1, 3: 2}),
        ({"presence_penalty": 0.1}, {2: 1, 3: 2}),
        ({"frequency_penalty": 0.1}, {2: 1, 3: 2}),
    ],
)
def test_history_is_counted_as_far_as_it_matters(
    values: dict[str, float], expected: dict[int, int]
) -> None:
    """The prompt belongs to the repetition penalty alone, and counts as seen, not as said."""
    guide = guide_of(**values)
    for token in (3, 2, 3):
        guide.accept(token)
    assert counts_of(guide.draw().history) == expected


def test_without_parameters_nothing_is_kept() -> None:
    """A plain reply has no history, bias, mask or withheld tokens, so its logits are not edited."""
    guide = guide_of()
    guide.accept(3)
    draw = guide.draw()
    assert (draw.history, draw.bias, draw.mask, list(draw.withheld)) == (None, None, None, [])


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_a_guess_sees_what_it_would_see_had_it_come_true(
    prompt: list[int], reply: list[int], ahead: list[int]
) -> None:
    """Number, history and withheld tokens are those of the longer reply; the guide is unchanged."""
    values = {"repetition_penalty": 1.3, "min_tokens": 4}
    guide, later = guide_of(prompt, **values), guide_of(prompt, **values)
    for token in reply:
        guide.accept(token)
        later.accept(token)
    before = counts_of(guide.draw().history)
    guess = guide.draw(ahead)
    for token in ahead:
        later.accept(token)
    come_true = later.draw()
    assert (guess.uniform, guess.withheld) == (come_true.uniform, come_true.withheld)
    assert counts_of(guess.history) == counts_of(come_true.history)
    assert counts_of(guide.draw().history) == before


@given(
    st.lists(st.integers(0, 8), max_size=6),
    st.integers(0, 3),
    st.sampled_from([{}, {"min_tokens": 4}, {"temperature": 0.0, "min_tokens": 2}]),
)
def test_a_guide_goes_on_where_only_the_number_differs(
    reply: list[int], unread: int, values: dict[str, float]
) -> None:
    """The draw before and this one are the same but for their uniform number."""
    guide = guide_of(**values)
    for token in reply:
        guide.accept(token)
    before, now = guide.draw(unread=unread), guide.draw(unread=unread + 1)

    is_alike = before._replace(uniform=now.uniform) == now
    assert guide.going_on(unread + 1) == (now.uniform if is_alike else None)
    assert guide.uniform(unread + 1) == now.uniform


@pytest.mark.parametrize(
    "values",
    [
        {"presence_penalty": 0.5},
        {"repetition_penalty": 1.1},
        {"logit_bias": {3: 1.0}},
        {"logprobs": 0},
        {"grammar": Spelling([3, 4])},
    ],
)
def test_a_guide_with_more_than_a_number_does_not_go_on(values: dict[str, object]) -> None:
    """Histories, biases, masks and logprobs have to be looked at every time."""
    assert guide_of(**values).going_on(0) is None


# Ends


@pytest.mark.parametrize(
    ("values", "ends", "withheld"),
    [
        ({}, {END}, [END]),
        ({"stop_token_ids": (3, 4)}, {END, 3, 4}, [3, 4, END]),
        ({"ignore_eos": True}, set(), [END]),
        ({"ignore_eos": True, "stop_token_ids": (3, END)}, {3, END}, [3, END]),
    ],
)
def test_what_ends_a_reply_and_when(
    values: dict[str, object], ends: set[int], withheld: list[int]
) -> None:
    """All of it is withheld until there are min_tokens, as in vLLM."""
    guide = guide_of(min_tokens=2, **values)
    assert guide.ends == ends
    assert list(guide.draw().withheld) == withheld
    guide.accept(1)
    assert list(guide.draw().withheld) == withheld
    guide.accept(1)
    assert list(guide.draw().withheld) == []


# Grammars


def test_a_grammar_is_asked_once_a_token() -> None:
    """Its mask is in every draw until it is complete."""
    guide = guide_of(grammar=Spelling([4, 6]))
    for token in (4, 6):
        assert guide.draw().mask.tolist() == packed(np.arange(10) == token).tolist()
        assert not guide.is_complete
        guide.accept(token)
    assert guide.is_complete
    assert guide.draw().mask is None


def test_a_grammar_cannot_look_ahead() -> None:
    """A guess with a grammar is a mistake of the engine's, not a wrong mask."""
    with pytest.raises(AssertionError):
        guide_of(grammar=Spelling([4])).draw((4,))
