"""The figures of one model on one set of questions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from training.scores.measures import (
    bleu,
    characters,
    distinct,
    mean_length,
    repetition,
    rouge_l,
    share,
)
from training.scores.questions import Question
from training.scores.replies import Reply, greedy
from training.stages import OnProgress, unheard

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.scores.validation import Validation

MOST_NATS = 700.0  # exp of more is no number


class Answer(msgspec.Struct, frozen=True):
    """A question in words, what the data answered, and what the model did."""

    text: str
    reference: str
    reply: str


class Asked(msgspec.Struct, frozen=True):
    """Questions with the replies that a model made, as tokens and as text."""

    questions: list[Question]
    replies: list[Reply]
    texts: list[str]

    @property
    def answers(self) -> list[Answer]:
        pairs = zip(self.questions, self.texts, strict=True)
        return [Answer(one.text, one.reference, text) for one, text in pairs]


def ask(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    ends: Collection[int],
    max_tokens: int,
    on_progress: OnProgress = unheard,
) -> Asked:
    """Have ``model`` answer; as :func:`training.scores.replies.greedy`."""
    prompts = [question.prompt for question in questions]
    replies = greedy(model, prompts, ends, max_tokens, on_progress)
    texts = [tokenizer.decode(reply.ids, skip_special_tokens=True).strip() for reply in replies]
    return Asked(list(questions), replies, texts)


def likelihood(found: Validation) -> dict[str, float]:
    """The figures about the data's own replies."""
    return {
        "perplexity_per_character": math.exp(min(MOST_NATS, found.nll_per_character)),
        "nll_per_character": found.nll_per_character,
        "nll_per_token": found.nll_per_token,
    }


def measures(asked: Asked, known: Collection[str] = ()) -> dict[str, float]:
    """The figures about the replies in ``asked``, all of which have a reference.

    ``known`` are the characters of the training split's replies.
    """
    references = [question.reference for question in asked.questions]
    echoes = zip(asked.questions, asked.texts, strict=True)
    return {
        "bleu_2_characters": bleu(references, asked.texts, 2),
        "bleu_4_characters": bleu(references, asked.texts, 4),
        "rouge_l_characters": rouge_l(references, asked.texts),
        **of_texts(asked.texts, known),
        "echoed": share(characters(one.text) == characters(text) for one, text in echoes),
        "unfinished": share(not reply.is_finished for reply in asked.replies),
    }


def of_texts(texts: Sequence[str], known: Collection[str]) -> dict[str, float]:
    """The figures that need no reference."""
    return {
        "distinct_1_characters": distinct(texts, 1),
        "distinct_2_characters": distinct(texts, 2),
        "reply_characters": mean_length(texts),
        "repetition_4_characters": repetition(texts),
        "copied_from_training": share(characters(text) in known for text in texts),
    }
