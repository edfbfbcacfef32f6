"""Training sequences, and the count of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import msgspec


class Cut(StrEnum):
    """What had to go so that a sequence fits; each includes the ones before it."""

    NOTHING = "nothing"
    TURNS = "turns"  # whole exchanges, the oldest first
    PROMPT = "prompt"  # the beginning of the last user's text
    REPLY = "reply"  # the end of the last reply, and with it the end marker


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: token ids, and which of them the model should learn to produce.

    Position ``i`` is learnt from positions before ``i``; no shift is applied here. ``dropped`` is
    how many utterances of the conversation are missing at its beginning, ``characters`` how many
    the replies that are learnt have.
    """

    ids: list[int]
    is_target: list[bool]
    cut: Cut = Cut.NOTHING
    dropped: int = 0
    characters: int = 0

    @property
    def targets(self) -> int:
        """How many tokens bear a loss."""
        return sum(self.is_target)

    @property
    def replies(self) -> int:
        """How many replies bear a loss; template tokens lie between any two."""
        starts = sum(is_target and not before for before, is_target in pairwise(self.is_target))
        return starts + self.is_target[0]


class EncodeReport(msgspec.Struct, frozen=True):
    """What came of encoding ``dialogues``: sequences, replies with loss, tokens, and the cuts."""

    dialogues: int = 0
    examples: int = 0
    replies: int = 0
    tokens: int = 0
    target_tokens: int = 0
    longest: int = 0
    cut: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(map(str, Cut), 0))
    utterances_dropped: int = 0

    @classmethod
    def over(cls, dialogues: Iterable[Sequence[Example]]) -> EncodeReport:
        """Count the examples of ``dialogues``."""
        made = [list(examples) for examples in dialogues]
        examples = [example for each in made for example in each]
        lengths = [len(example.ids) for example in examples]
        return cls(
            dialogues=len(made),
            examples=len(examples),
            replies=sum(example.replies for example in examples),
            tokens=sum(lengths),
            target_tokens=sum(example.targets for example in examples),
            longest=max(lengths, default=0),
            cut={cut.value: sum(example.cut is cut for example in examples) for cut in Cut},
            utterances_dropped=sum(example.dropped for example in examples),
        )

    def plus(self, other: EncodeReport) -> EncodeReport:
        """The count of both."""
        return EncodeReport(
            dialogues=self.dialogues + other.dialogues,
            examples=self.examples + other.examples,
            replies=self.replies + other.replies,
            tokens=self.tokens + other.tokens,
            target_tokens=self.target_tokens + other.target_tokens,
            longest=max(self.longest, other.longest),
            cut={name: count + other.cut[name] for name, count in self.cut.items()},
            utterances_dropped=self.utterances_dropped + other.utterances_dropped,
        )
