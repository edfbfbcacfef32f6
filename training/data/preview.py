"""What a model would learn from a dialogue, as spans of text with and without loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from adapters.manifest import SEED_SYSTEM_PROMPT
from training.data.dialogue import Dialogue
from training.data.encode import Encoding, encode_dialogue
from training.data.roles import assign_roles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What the default recipe trains with.
DEFAULT = Encoding(system_prompt=SEED_SYSTEM_PROMPT, max_length=512)


class Span(msgspec.Struct, frozen=True):
    """A piece of text that bears a loss throughout, or not at all."""

    text: str
    is_target: bool


class Preview(msgspec.Struct, frozen=True):
    """One training sequence. ``tokens`` and ``target_tokens`` are unknown without a tokenizer."""

    spans: tuple[Span, ...]
    tokens: int | None = None
    target_tokens: int | None = None


def preview_roles(utterances: Sequence[str]) -> Preview:
    """The dialogue line by line with its roles; the replies bear the loss."""
    spans: list[Span] = []
    for turn in assign_roles(utterances):
        spans.append(Span(f"{turn.role:<9}  ", is_target=False))
        spans.append(Span(turn.text, is_target=turn.is_reply))
        spans.append(Span("\n", is_target=False))
    return Preview(tuple(spans))


def preview_tokens(
    tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue, encoding: Encoding = DEFAULT
) -> list[Preview]:
    """The sequences that ``dialogue`` becomes, decoded token by token's loss.

    Raises:
        DataError: the tokenizer's template refuses the dialogue.
    """
    examples = encode_dialogue(tokenizer, dialogue, encoding)
    return [
        Preview(
            tuple(
                Span(str(tokenizer.decode([token for token, _ in pairs])), is_target)
                for is_target, pairs in groupby(
                    zip(example.ids, example.is_target, strict=True), key=lambda pair: pair[1]
                )
            ),
            tokens=len(example.ids),
            target_tokens=example.targets,
        )
        for example in examples
    ]
