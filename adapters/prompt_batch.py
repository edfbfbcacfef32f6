"""Many conversations as tokens at once: the same tokens as ``adapters.prompt`` gives, quicker.

A tokenizer encodes the text between two of its added tokens (ChatML's ``<|im_start|>`` and the
like) by itself. So what a template wrote is cut at these tokens, every different piece of the batch
is encoded once, and the pieces are put together again. What is not sure to come out the same goes
through ``adapters.prompt``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from adapters.borders import settings_of
from adapters.conversation import Message
from adapters.prompt import end_of_turn, render_prompt, render_reply

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What transformers marks control tokens in users' text with, and drops from it.
_MARKERS = "\U000f0000\U000f0001"

# Steps of tokenizers that look beyond a piece: Metaspace may treat the first of a text in its own
# way. Any other kind sees one piece at a time.
_LOOKING_BEYOND = ("Metaspace", "Prepend", "Strip")

# How many conversations are rendered both ways before the quick one is relied upon.
CHECKED = 32


class BatchRenderer:
    """Renders for one ``tokenizer``.

    ``control`` are its added tokens with their numbers. ``is_quick`` is whether the text between
    two of them is encoded by itself; it is taken back where what comes out says otherwise.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        added = sorted(tokenizer.added_tokens_encoder, key=len, reverse=True)
        self.control: dict[str, int] = tokenizer.added_tokens_encoder
        self._cut = re.compile(f"({'|'.join(map(re.escape, added))})" if added else "(?!)")
        self._odd = re.compile(
            f"{'|'.join(map(re.escape, added))}|[{_MARKERS}]" if added else "(?!)"
        )
        self._hints = {*_MARKERS, *(token[0] for token in added)}
        self._unchecked = CHECKED
        self.is_quick = _encodes_by_pieces(tokenizer)

    def render(
        self, conversations: Sequence[Sequence[Message]], replies: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Of each conversation what ``render_prompt`` gives, of each reply what ``render_reply``.

        Raises:
            jinja2.TemplateError: the template refuses a conversation; which one is not said.
        """
        if not self.is_quick:
            return self._one_by_one(conversations, replies)
        plain = [index for index, messages in enumerate(conversations) if self._is_plain(messages)]
        pieces = dict(zip(plain, self._pieces([conversations[i] for i in plain]), strict=True))
        texts = {reply for reply in replies if not self.is_odd(reply)}
        ids = self._encode({*texts, *(piece for each in pieces.values() for piece in each)})
        prompts = [
            [token for piece in pieces[index] for token in ids[piece]]
            if index in pieces
            else render_prompt(self.tokenizer, messages)
            for index, messages in enumerate(conversations)
        ]
        end = end_of_turn(self.tokenizer)
        ended = [
            [*ids[reply], end] if reply in texts else render_reply(self.tokenizer, reply)
            for reply in replies
        ]
        return self._checked(conversations, replies, prompts, ended)

    def cut(self, text: str) -> list[str]:
        """``text`` as the pieces that are encoded by themselves: control tokens, and between."""
        return [piece for piece in self._cut.split(text) if piece]

    def is_control(self, piece: str) -> bool:
        """Whether ``piece`` is one of the tokenizer's added tokens."""
        return piece in self.control

    def is_odd(self, text: str) -> bool:
        """Whether ``text`` holds what must be kept from becoming a control token."""
        return not self._hints.isdisjoint(text) and self._odd.search(text) is not None

    def _is_plain(self, messages: Sequence[Message]) -> bool:
        """Whether no message holds what must be kept from becoming a control token."""
        return not any(self.is_odd(message["content"]) for message in messages)

    def _pieces(self, conversations: Sequence[Sequence[Message]]) -> Iterable[list[str]]:
        """What the template makes of each conversation, cut at the added tokens."""
        if not conversations:
            return []
        rendered = self.tokenizer.apply_chat_template(
            [[dict(message) for message in messages] for messages in conversations],
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=False,
        )
        return [self.cut(text) for text in rendered]

    def _encode(self, pieces: set[str]) -> dict[str, list[int]]:
        """The tokens of each piece; an added token is one piece and one token."""
        ids = {piece: [self.control[piece]] for piece in pieces if piece in self.control}
        texts = [piece for piece in pieces if piece not in ids]
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
        ids |= {text: encoding.ids for text, encoding in zip(texts, encodings, strict=True)}
        return ids

    def _one_by_one(
        self, conversations: Sequence[Sequence[Message]], replies: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        prompts = [render_prompt(self.tokenizer, messages) for messages in conversations]
        return prompts, [render_reply(self.tokenizer, reply) for reply in replies]

    def _checked(
        self,
        conversations: Sequence[Sequence[Message]],
        replies: Sequence[str],
        prompts: list[list[int]],
        ended: list[list[int]],
    ) -> tuple[list[list[int]], list[list[int]]]:
        """The results, after the first few were compared with those of the slow way."""
        if self._unchecked > 0:
            few = slice(self._unchecked)
            self._unchecked -= len(conversations)
            if self._one_by_one(conversations[few], replies[few]) != (prompts[few], ended[few]):
                self.is_quick = False
                return self._one_by_one(conversations, replies)
        return prompts, ended


def _encodes_by_pieces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the text between added tokens is encoded by itself, whatever stands around it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    added = backend.get_added_tokens_decoder().values()
    if any(
        token.lstrip or token.rstrip or token.single_word or token.normalized for token in added
    ):
        return False
    shown = json.dumps([settings_of(backend.normalizer), settings_of(backend.pre_tokenizer)])
    return not any(f'"type": "{kind}"' in shown for kind in _LOOKING_BEYOND)
