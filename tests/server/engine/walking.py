"""Models that say anything a grammar allows, for tests of grammars."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from server.engine.grammar import Grammar
from tests.tiny import MARKS, byte_tokenizer

LONGEST = 300


def with_words(tokenizer: PreTrainedTokenizerFast, *words: str) -> PreTrainedTokenizerFast:
    """The same with some more tokens: ASCII of several characters, as trained tokenizers have."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    stand_ins = {" ": "Ġ", "\n": "Ċ"}
    for index, word in enumerate(words):
        token = "".join(stand_ins.get(character, character) for character in word)
        state["model"]["vocab"][token] = len(tokenizer) + index
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        eos_token=tokenizer.eos_token,
        chat_template=tokenizer.chat_template,
    )


# Marks spelled, marks as tokens, and marks that begin and end within tokens.
TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "spelled": byte_tokenizer,
    "tokens": lambda: byte_tokenizer(MARKS),
    "words": lambda: with_words(
        byte_tokenizer(),
        *("<tool", "x <tool", "_call>", "call>\n{", '_call>\n{"name', "call>x", "</tool", "think"),
        *("</", "think>", "think>\n\n", "</think>", "\n<", "<think", "</think>\n\n<tool_call>"),
    ),
}


def allowed(grammar: Grammar) -> list[int]:
    """The tokens that the mask allows."""
    words = grammar.mask()
    assert words is not None
    return [
        32 * index + bit
        for index, word in enumerate(words.tolist())
        for bit in range(32)
        if word >> bit & 1
    ]


def walk(
    grammar: Grammar,
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    likes: Collection[int] = (),
) -> tuple[str, bool]:
    """A reply of random tokens, those it ``likes`` more often, and whether it came to its end."""
    rng = random.Random(seed)
    ids: list[int] = []
    while len(ids) < LONGEST:
        if grammar.is_finished:
            return tokenizer.decode(ids), True
        tokens = allowed(grammar)
        liked = [token for token in tokens if token in likes]
        token = rng.choice(liked if liked and rng.random() < 0.4 else tokens)
        if token == tokenizer.eos_token_id:
            return tokenizer.decode(ids), True
        grammar.accept(token)
        ids.append(token)
    return tokenizer.decode(ids), False
