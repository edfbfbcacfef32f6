"""Roles: who speaks, and what may be learnt."""

from __future__ import annotations

from itertools import pairwise

import pytest

from training.data.dialogue import Dialogue
from training.data.roles import RolePolicy, Turn, assign_roles, conversations


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


TEXTS = ["一", "二", "三", "四", "五"]


def learnt(dialogue: Dialogue, policy: RolePolicy) -> list[list[str]]:
    return [
        [turn.text for turn in turns if turn.is_reply] for turns in conversations(dialogue, policy)
    ]


@pytest.mark.parametrize("length", range(6))
def test_every_reply_is_learnt_once_from_either_speaker(length: int) -> None:
    """All utterances but the first, the last conversation ending one earlier."""
    found = learnt(Dialogue(TEXTS[:length]), "every-reply")
    assert sorted(text for each in found for text in each) == sorted(TEXTS[1:length])
    assert len(found) == (2 if length > 2 else 1)


@pytest.mark.parametrize("length", range(6))
def test_last_only_learns_the_last(length: int) -> None:
    """The rest is context; one utterance alone answers nobody."""
    expected = [TEXTS[length - 1]] if length > 1 else []
    assert learnt(Dialogue(TEXTS[:length]), "last-only") == [expected]


def test_what_a_user_said_is_never_learnt_where_the_file_says_so() -> None:
    """So `every-reply` learns then what `last-assistant` does."""
    given = Dialogue(TEXTS, has_roles=True)
    assert learnt(given, "every-reply") == learnt(given, "last-assistant") == [["三", "五"]]
