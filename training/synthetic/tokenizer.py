"""A byte-level BPE tokenizer of any size that needs no corpus: Han characters, and pairs of them.

Nearly every token is readable text of its own, as with a tokenizer that was trained, so that what
a random base says costs the server what a reply costs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from training.pocket.base import CONTROL_TOKENS, TEMPLATE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROLES = ("system", "user", "assistant")


class Vocabulary:
    """Tokens by id, and the merges that lead to them. A merge adds its token where it is new."""

    def __init__(self, size: int, first_control_token: int) -> None:
        self.size = size
        self.tokens = dict(zip(CONTROL_TOKENS, range(first_control_token, size), strict=False))
        self.merges: list[tuple[str, str]] = []
        taken = set(self.tokens.values())
        self._free = (index for index in range(size) if index not in taken)

    @property
    def is_full(self) -> bool:
        return len(self.tokens) == self.size

    def add(self, token: str) -> None:
        if not self.is_full and token not in self.tokens:
            self.tokens[token] = next(self._free)

    def merge(self, left: str, right: str) -> None:
        """``left`` and ``right``, both tokens, become one."""
        token = left + right
        if not self.is_full and token not in self.tokens:
            self.add(token)
            self.merges.append((left, right))

    def spell(self, text: str) -> None:
        """Every beginning of ``text`` becomes a token, and so ``text`` itself."""
        for end in range(1, len(text)):
            self.merge(text[:end], text[end])


def random_tokenizer(
    size: int, first_control_token: int, *, context_length: int
) -> PreTrainedTokenizerFast:
    """A tokenizer with exactly ``size`` tokens, ChatML's control tokens and chat template.

    In order of their ids: the bytes, the names of the roles, the characters of GB 2312, pairs of
    these at random, always the same; the control tokens stand from ``first_control_token`` on. With
    Qwen3's 151,936 tokens 0.3 % are parts of a character, which show no text of their own.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = _vocabulary(size, first_control_token)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary.tokens, merges=vocabulary.merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(CONTROL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 # a token of text
        pad_token="<|endoftext|>",  # noqa: S106 # same
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
        model_max_length=context_length,
    )


def _vocabulary(size: int, first_control_token: int) -> Vocabulary:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    stand_ins = bytes_to_unicode()
    vocabulary = Vocabulary(size, first_control_token)
    for character in sorted(stand_ins.values()):
        vocabulary.add(character)
    spelled = ["".join(stand_ins[byte] for byte in character.encode()) for character in han()]
    for text in (*ROLES, *spelled):
        vocabulary.spell(text)
    pairs = random.Random(0)  # noqa: S311 # no secret
    while not vocabulary.is_full:
        vocabulary.merge(pairs.choice(spelled), pairs.choice(spelled))
    return vocabulary


def han() -> Iterator[str]:
    """The characters of GB 2312: 682 signs and letters, then 6,763 Han, the common ones first."""
    for row in range(0xA1, 0xF8):
        for cell in range(0xA1, 0xFF):
            try:
                yield bytes([row, cell]).decode("gb2312")
            except UnicodeDecodeError:
                continue  # not assigned
