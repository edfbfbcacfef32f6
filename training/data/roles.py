"""Who says what: the policies that give the utterances of a dialogue their roles.

LCCC does not say who speaks. About a third of its dialogues have an odd number of utterances; when
the last one is the assistant's, such a one begins with an utterance of the assistant that answers
no one. It stays as context (Qwen's and ChatML templates render it) and never gets a loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from training.data.dialogue import Dialogue

RolePolicy = Literal["last-assistant", "every-reply", "last-only"]


class Turn(NamedTuple):
    """An utterance with its role; ``is_reply`` where it is to be learnt, as an answer to a user."""

    role: str
    text: str
    is_reply: bool

    @property
    def message(self) -> dict[str, str]:
        """As chat templates and the API want it."""
        return {"role": self.role, "content": self.text}


def assign_roles(utterances: Sequence[str]) -> list[Turn]:
    """The turns of a dialogue, oldest first; the last is the assistant's, every reply is learnt."""
    last = len(utterances) - 1
    return [
        Turn("user", text, is_reply=False)
        if (last - index) % 2
        else Turn("assistant", text, is_reply=index > 0)
        for index, text in enumerate(utterances)
    ]


def conversations(dialogue: Dialogue, policy: RolePolicy) -> list[list[Turn]]:
    """What is learnt from ``dialogue``, as one conversation or two; each may hold several replies.

    ``last-assistant`` learns every second utterance up to the last. ``every-reply`` learns each but
    the first once: those that ``last-assistant`` learns, and from the dialogue without its last
    utterance those in between; where the file says who speaks, only what the assistant says.
    ``last-only`` learns the last, as CDial-GPT does.
    """
    turns = assign_roles(dialogue.utterances)
    if policy == "last-only" and turns:
        *context, last = turns
        return [[*(turn._replace(is_reply=False) for turn in context), last]]
    if policy == "every-reply" and not dialogue.has_roles and len(turns) > 2:  # noqa: PLR2004 # a reply in between needs a third
        return [turns, assign_roles(dialogue.utterances[:-1])]
    return [turns]
