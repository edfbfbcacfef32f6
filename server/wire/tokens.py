"""``POST /tokenize`` and ``POST /detokenize``, as vLLM has them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from server.wire.chat import ChatTemplateKwargs, Messages, ReasoningEffort, Tools
from server.wire.parameters import Inbound, ModelName, TokenId
from server.wire.tools import ToolChoice


class TokenizeRequest(Inbound, frozen=True, kw_only=True):
    """A ``prompt``, or ``messages`` as the chat API takes them; exactly one of the two.

    What else goes into a chat's prompt may stand beside ``messages``, and means what it does there.
    ``parse_special``: names of control tokens in ``prompt`` are those tokens.
    """

    model: ModelName | None = None
    prompt: str | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    reasoning_effort: ReasoningEffort | None = None
    chat_template_kwargs: ChatTemplateKwargs | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    parse_special: bool | None = None
    return_token_strs: bool | None = None


class Tokenized(Struct, frozen=True, kw_only=True):
    """``token_strs`` are null unless ``return_token_strs`` asked for them."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(Inbound, frozen=True, kw_only=True):
    """Token ids."""

    model: ModelName | None = None
    tokens: Annotated[list[TokenId], Meta(max_length=2**20)]


class Detokenized(Struct, frozen=True, kw_only=True):
    """Their text; control tokens by name."""

    prompt: str
