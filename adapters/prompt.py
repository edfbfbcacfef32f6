"""How a conversation becomes tokens: the one rendering that training and serving share.

The template is the base's own. Text of users never becomes a control token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, str]


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Token ids of ``messages`` up to and including the start of the assistant's next reply.

    Thinking is switched off where the template knows it (Qwen3 then opens with an empty block).
    ``messages`` have the keys ``role`` and ``content``.
    """
    encoded = tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        sanitize_control_tokens=True,
        enable_thinking=False,
    )
    return list(encoded["input_ids"])


def render_reply(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of an assistant's reply as the model would generate it, end marker included."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [*ids, end_of_turn(tokenizer)]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an assistant's turn: the tokenizer's ``eos``, ChatML's ``<|im_end|>``."""
    token = tokenizer.eos_token_id
    if not isinstance(token, int):
        raise TypeError("the tokenizer of a chat base must have one eos token")
    return token
