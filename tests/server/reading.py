"""Feeding a reader of replies, and putting its parts together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from server.replies.parts import ArgumentsPart, CallPart, ContentPart, PartReader, ReasoningPart

KINDS: dict[type, str] = {ContentPart: "c", ReasoningPart: "r", CallPart: "f", ArgumentsPart: "a"}


@dataclass
class Read:
    """What a reader made of a reply. ``order``: of the kinds of parts, without repetitions."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    has_calls: bool = False
    order: str = ""


def read(reader: PartReader, pieces: Iterable[str]) -> Read:
    """All parts of a reply; those of content lie where they say in its text."""
    done = Read()
    text = ""
    for piece in pieces:
        text += piece
        _add(done, reader.feed(piece), text)
    _add(done, reader.finish(), text)
    done.has_calls = reader.has_calls
    return done


def _add(done: Read, parts: Iterable[object], text: str) -> None:
    for part in parts:
        kind = KINDS[type(part)]
        done.order += "" if done.order.endswith(kind) else kind
        match part:
            case ContentPart(written, begin):
                assert written
                assert begin is None or text[begin : begin + len(written)] == written
                done.content += written
            case ReasoningPart(written):
                assert written
                done.reasoning += written
            case CallPart():
                assert part.index == len(done.calls)
                done.calls.append((part.name, ""))
            case ArgumentsPart(index, written):
                assert index == len(done.calls) - 1
                name, before = done.calls[index]
                done.calls[index] = name, before + written
