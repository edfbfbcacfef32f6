"""Who says what: the policy that gives the utterances of a dialogue their roles.

``last-assistant``: roles alternate such that the last utterance is the assistant's, so every
dialogue ends on something to learn. About a third of LCCC's dialogues have an odd number of
utterances; such a one begins with an utterance of the assistant that answers no one. It stays as
context (Qwen's and ChatML templates render it) and never gets a loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

POLICY = "last-assistant"


class Turn(NamedTuple):
    """An utterance with its role; ``is_reply`` where it answers a user, and so can be learnt."""

    role: str
    text: str
    is_reply: bool

    @property
    def message(self) -> dict[str, str]:
        """As chat templates and the API want it."""
        return {"role": self.role, "content": self.text}


def assign_roles(utterances: Sequence[str]) -> list[Turn]:
    """The turns of a dialogue, oldest first; the last is the assistant's."""
    last = len(utterances) - 1
    return [
        Turn("user", text, is_reply=False)
        if (last - index) % 2
        else Turn("assistant", text, is_reply=index > 0)
        for index, text in enumerate(utterances)
    ]
