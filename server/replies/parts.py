"""What a reply consists of: an answer, thoughts before it, and calls of functions.

A model writes all of it as one text. A :class:`PartReader` takes that text as it comes and tells
the parts in it; the endpoints show them in their own shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)  # frozen, it would take thrice as long to make: one every token
class ContentPart:
    """More of what is said to the user.

    ``begin``: before which character of the reply's own text it stands, where not all of that is
    content.
    """

    text: str
    begin: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """More of what the model writes for itself before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class CallPart:
    """A call of the function ``name``, the ``index``-th of this reply; ``id`` is made by us."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPart:
    """More of the arguments of the call ``index``, which together are one JSON object."""

    index: int
    text: str


Part = ContentPart | ReasoningPart | CallPart | ArgumentsPart


class PartReader(Protocol):
    """Reads one reply. What is not yet certain to be one part or another is held back."""

    def feed(self, text: str) -> list[Part]:
        """The parts that ``text`` makes certain."""

    def finish(self) -> list[Part]:
        """What was held back, once no text follows."""

    @property
    def has_calls(self) -> bool:
        """Whether there are calls, all of them whole: the reply then ends with ``tool_calls``."""


class PlainReader:
    """For replies that are an answer and nothing else."""

    has_calls = False

    def feed(self, text: str) -> list[Part]:
        return [ContentPart(text)] if text else []

    def finish(self) -> list[Part]:
        return []
