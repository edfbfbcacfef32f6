"""How a conversation becomes tokens: the one rendering that training and serving share.

The template is the base's own. Text of users never becomes a control token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from adapters.conversation import Ending, Message

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerBase

_MARK = re.compile(r"<.*>|\[.*\]", re.DOTALL)


# How many bytes transformers' signs around a name in a text take, which become no tokens.
SIGN_BYTES = 6


def render_prompt(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    thinks: bool = False,
    ending: Ending = "reply",
    check: Callable[[str], None] | None = None,
) -> list[int]:
    """Token ids of ``messages``, and of what comes before the text that is to be generated.

    ``messages`` have the keys ``role`` and ``content``, an assistant's perhaps ``tool_calls`` (with
    ``arguments`` as objects) and ``reasoning_content``, a tool's ``tool_call_id``. ``tools`` are
    function definitions in OpenAI's shape. What the template has no place for is not in the prompt.

    Unless ``thinks``, thinking is switched off where the template knows it (Qwen3 then opens the
    reply with an empty block).

    ``check`` is called with the prompt as text before tokens are made of it, which may take long;
    in it, names of control tokens of users stand between signs of :data:`SIGN_BYTES` together.

    Raises:
        jinja2.TemplateError: the template refuses these messages.
        ValueError: the last message cannot be continued, or a control token in a text has no
            other spelling.
    """
    pattern = control_tokens(tokenizer.added_tokens_decoder.values())
    rendered = tokenizer.apply_chat_template(
        [_marked(dict(message), pattern) for message in messages],
        tools=[_marked(tool, pattern) for tool in tools] or None,
        add_generation_prompt=ending == "reply",
        continue_final_message=ending == "continued",
        tokenize=False,
        enable_thinking=thinks,
    )
    if check is not None:
        check(rendered)
    return _encoded(tokenizer, rendered)


def render_reply(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of an assistant's reply as the model would generate it, end marker included."""
    return [*render_text(tokenizer, text), end_of_turn(tokenizer)]


def render_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text by itself; names of control tokens in it are spelled."""
    added = tokenizer.added_tokens_decoder.values()
    if control_tokens(one for one in added if not one.special).search(text):
        return _encoded(tokenizer, _marked(text, control_tokens(added)))
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return list(ids)


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an assistant's turn: the tokenizer's ``eos``, ChatML's ``<|im_end|>``."""
    token = tokenizer.eos_token_id
    if not isinstance(token, int):
        raise TypeError("the tokenizer of a chat base must have one eos token")
    return token


def control_tokens(added: Iterable[AddedToken]) -> re.Pattern[str]:
    """What matches the names of those ``added`` tokens that control something.

    These are the special ones, and those that look like marks: Qwen's ``<tool_call>`` and
    ``<think>`` are not special to its tokenizer, but steer the model all the same.
    """
    names = {str(token) for token in added if token.special or _MARK.fullmatch(str(token))}
    return _any_of(frozenset(names - {""}))


@lru_cache(maxsize=8)
def _any_of(names: frozenset[str]) -> re.Pattern[str]:
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _marked(value: Any, pattern: re.Pattern[str]) -> Any:
    """``value`` with signs around control tokens in its texts, by which they are known to be text.

    Transformers does this too (``sanitize_control_tokens``), but not in keys of objects, which
    schemas and arguments have from users, and for the marks that the template itself contains only.
    """
    from transformers.utils.chat_template_utils import mark_control_tokens

    if isinstance(value, Mapping):
        return {_marked(key, pattern): _marked(each, pattern) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(each, pattern) for each in value]
    return mark_control_tokens(value, pattern)


def _encoded(tokenizer: PreTrainedTokenizerBase, marked: str) -> list[int]:
    """Token ids; what is marked in a text is spelled."""
    ids = tokenizer(marked, add_special_tokens=False, sanitize_control_tokens=True)["input_ids"]
    return list(ids)
