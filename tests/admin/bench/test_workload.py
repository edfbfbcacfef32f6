"""Prompts: as long as asked, never the same twice, and the same again for the same seed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.bench.errors import BenchFailed
from admin.bench.workload import Message, Prompter, Workload, common_han


def workload(**changes: float) -> Workload:
    sizes = {"concurrency": 2, "requests": 4, "prompt_tokens": 50, "output_tokens": 8}
    return Workload(**sizes | changes)  # type: ignore[arg-type]


def in_bytes(messages: Sequence[Message]) -> int:
    """As a tokenizer without merges counts, with a template of 7 tokens."""
    return 7 + len(messages[0]["content"].encode())


def in_characters(messages: Sequence[Message]) -> int:
    return 7 + len(messages[0]["content"])


@given(st.integers(10, 300), st.sampled_from([in_bytes, in_characters]))
def test_a_prompt_has_the_length_that_was_asked(tokens: int, count: object) -> None:
    """The template included, also where a character is three tokens."""
    prompter = Prompter(workload(prompt_tokens=tokens), count)  # type: ignore[arg-type]

    assert count(prompter.messages(0, 0)) == tokens  # type: ignore[operator]


@given(st.integers(40, 300), st.floats(0, 0.9), st.integers(0, 50))
def test_lengths_differ_within_their_range(tokens: int, ratio: float, index: int) -> None:
    """Each request's are its own, the same every time, and never further off than asked."""
    load = Workload(
        concurrency=1, requests=1, prompt_tokens=tokens, output_tokens=tokens, range_ratio=ratio
    )
    prompt, reply = load.lengths(3, index)

    assert load.lengths(3, index) == (prompt, reply)
    assert all((1 - ratio) * tokens <= each <= (1 + ratio) * tokens for each in (prompt, reply))
    assert prompt + reply <= load.longest <= 2 * (1 + ratio) * tokens


def test_a_range_is_used_to_its_ends() -> None:
    """From a tenth to nearly twice the length, and without a range all lengths are the same."""
    load = workload(output_tokens=100, range_ratio=0.9)
    lengths = [load.lengths(0, index)[1] for index in range(500)]

    assert 10 <= min(lengths) < 20
    assert 180 < max(lengths) <= 190
    assert {workload().lengths(0, index) for index in range(20)} == {(50, 8)}


def test_no_two_requests_are_alike() -> None:
    """They differ from their first character on, between requests and between rounds."""
    prompter = Prompter(workload(), in_characters)
    texts = [
        prompter.messages(number, index)[0]["content"] for number in range(3) for index in "ab"
    ]

    assert len(set(texts)) == 6
    assert len({text[0] for text in texts}) > 3


def test_the_seed_decides() -> None:
    """Equal seeds give equal prompts, other seeds others."""
    first, same, other = (
        Prompter(workload(seed=seed), in_bytes).messages(1, 2) for seed in (5, 5, 6)
    )

    assert first == same
    assert first != other


def test_a_shared_prefix_is_shared() -> None:
    """By every request of every round, to the last token, and no further."""
    prompter = Prompter(workload(shared_prefix_tokens=30), in_characters)
    texts = [prompter.messages(number, 0)[0]["content"] for number in range(4)]

    assert len({text[:30] for text in texts}) == 1
    assert len({text[30:] for text in texts}) == 4
    assert {in_characters([{"content": text}]) for text in texts} == {50}


@pytest.mark.parametrize("sizes", [{"prompt_tokens": 7}, {"shared_prefix_tokens": 44}])
def test_a_prompt_that_cannot_be_is_refused(sizes: dict[str, int]) -> None:
    """With the least that is possible."""
    prompter = Prompter(workload(**sizes), in_characters)

    with pytest.raises(BenchFailed, match=r"--prompt-tokens \d+ leaves no room .* need (8|51)\."):
        prompter.messages(0, 0)


def test_without_a_tokenizer_a_character_is_a_token() -> None:
    """The best guess there is; the server's usage then says what it was."""
    assert len(Prompter(workload()).messages(0, 0)[0]["content"]) == 50


def test_the_characters_are_common_ones() -> None:
    """Level 1 of GB 2312, from the first to the last."""
    assert (len(common_han()), common_han()[0], common_han()[-1]) == (3755, "啊", "座")
