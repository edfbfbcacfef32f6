"""Roles: who speaks, and what may be learnt."""

from __future__ import annotations

from itertools import pairwise

import pytest

from training.data.roles import Turn, assign_roles


@pytest.mark.parametrize("length", range(1, 9))
def test_roles_alternate_and_end_on_the_assistant(length: int) -> None:
    """Whatever the number of utterances, in their order and none left out."""
    turns = assign_roles([f"说{index}" for index in range(length)])
    assert [turn.text for turn in turns] == [f"说{index}" for index in range(length)]
    assert turns[-1].role == "assistant"
    assert all(a.role != b.role for a, b in pairwise(turns))


@pytest.mark.parametrize("length", range(1, 9))
def test_replies_are_the_assistants_turns_that_follow_a_user(length: int) -> None:
    """There is one for every user turn; an opening by the assistant is context only."""
    turns = assign_roles(["嗯"] * length)
    replies = [index for index, turn in enumerate(turns) if turn.is_reply]
    assert replies == [i + 1 for i, turn in enumerate(turns) if turn.role == "user"]
    assert len(replies) == length // 2


def test_a_turn_renders_as_a_message() -> None:
    """With the two keys that templates and the API know."""
    assert Turn("user", "在吗", is_reply=False).message == {"role": "user", "content": "在吗"}
