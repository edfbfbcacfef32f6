"""A dialogue, as it is read from a file and as it lies in a prepared dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

Role = Literal["user", "assistant"]


class RawDialogue(NamedTuple):
    """A dialogue as a file has it.

    ``roles`` has one role an utterance where the file says who speaks, and is ``None`` where it
    does not. ``fault`` says why the dialogue cannot be used although the file is well-formed, such
    as calls of tools.
    """

    utterances: Sequence[str]
    roles: Sequence[Role] | None = None
    system: str | None = None
    fault: str | None = None


class Dialogue(msgspec.Struct, frozen=True):
    """A prepared dialogue, oldest utterance first.

    Two speakers take turns. With ``has_roles`` the last of them is the assistant and the other
    the user, because the file said so; without, either may be taken for the assistant. ``system``
    is the dialogue's own system prompt and stands in place of the recipe's.
    """

    utterances: list[str]
    system: str | None = None
    has_roles: bool = False

    @property
    def characters(self) -> int:
        """Of all utterances together."""
        return sum(map(len, self.utterances))

    def canonical(self) -> bytes:
        """The same bytes for the same dialogue on every machine: what content hashes are over."""
        if self.system is None and not self.has_roles:
            return msgspec.json.encode(self.utterances)
        return msgspec.json.encode([self.utterances, self.system, self.has_roles])

    def said(self) -> bytes:
        """The same bytes where the same is said, whether or not a file tells who speaks.

        Repeats and leaks go by it. Without roles these are the canonical bytes.
        """
        return Dialogue(self.utterances, self.system).canonical()
