"""What a model would learn from a dialogue, as pieces of text with and without loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from adapters.manifest import SEED_SYSTEM_PROMPT
from training.data.dialogue import Dialogue
from training.data.encode import Encoding, encode_dialogue
from training.data.roles import RolePolicy, conversations

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.data.example import Example

# What the default recipe trains with.
DEFAULT = Encoding(system_prompt=SEED_SYSTEM_PROMPT, max_length=512)

# At most so many tokens make one character: UTF-8 has four bytes.
LONGEST_CHARACTER = 4


class Span(msgspec.Struct, frozen=True):
    """A piece of text that bears a loss throughout, or not at all; its token ids where asked for.

    Several tokens have one span where none of them is text by itself.
    """

    text: str
    is_target: bool
    ids: tuple[int, ...] | None = None


class Preview(msgspec.Struct, frozen=True):
    """One training sequence. ``tokens`` and ``target_tokens`` are unknown without a tokenizer."""

    spans: tuple[Span, ...]
    tokens: int | None = None
    target_tokens: int | None = None


def preview_roles(
    dialogue: Dialogue, policy: RolePolicy = "last-assistant", system: str | None = None
) -> list[Preview]:
    """The dialogue line by line with its roles; what ``policy`` learns bears the loss.

    ``system`` is the system prompt of dialogues that have none of their own.
    """
    prompt = dialogue.system or system
    opening = (Span(f"{'system':<9}  {prompt}\n", is_target=False),) if prompt else ()
    previews = []
    for turns in conversations(dialogue, policy):
        spans = list(opening)
        for turn in turns:
            spans.append(Span(f"{turn.role:<9}  ", is_target=False))
            spans.append(Span(turn.text, is_target=turn.is_reply))
            spans.append(Span("\n", is_target=False))
        previews.append(Preview(tuple(spans)))
    return previews


def preview_tokens(
    tokenizer: PreTrainedTokenizerBase,
    dialogue: Dialogue,
    encoding: Encoding = DEFAULT,
    *,
    one_by_one: bool = False,
) -> list[Preview]:
    """The sequences that ``dialogue`` becomes, decoded.

    A span is a run of tokens with or without loss, or a token where ``one_by_one``.

    Raises:
        DataError: the tokenizer's template refuses the dialogue.
    """
    spans_of = _tokens if one_by_one else _runs
    return [
        Preview(
            tuple(spans_of(tokenizer, example)),
            tokens=len(example.ids),
            target_tokens=example.targets,
        )
        for example in encode_dialogue(tokenizer, dialogue, encoding)
    ]


def _runs(tokenizer: PreTrainedTokenizerBase, example: Example) -> Iterator[Span]:
    for is_target, ids in _by_loss(example):
        yield Span(str(tokenizer.decode(ids)), is_target)


def _tokens(tokenizer: PreTrainedTokenizerBase, example: Example) -> Iterator[Span]:
    """Every token; those that are only parts of a character together."""
    for is_target, ids in _by_loss(example):
        at = 0
        while at < len(ids):
            size = next(
                (
                    size
                    for size in range(1, LONGEST_CHARACTER + 1)
                    if "\ufffd" not in tokenizer.decode(ids[at : at + size])
                ),
                1,
            )
            part = ids[at : at + size]
            yield Span(str(tokenizer.decode(part)), is_target, tuple(part))
            at += size


def _by_loss(example: Example) -> Iterator[tuple[bool, list[int]]]:
    """Runs of ids that bear a loss or do not."""
    pairs: Sequence[tuple[int, bool]] = list(zip(example.ids, example.is_target, strict=True))
    for is_target, run in groupby(pairs, key=lambda pair: pair[1]):
        yield is_target, [token for token, _ in run]
