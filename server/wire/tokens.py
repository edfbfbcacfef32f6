"""``POST /tokenize`` and ``POST /detokenize``, as vLLM has them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from server.wire.chat import Message
from server.wire.parameters import Inbound, ModelName, TokenId


class TokenizeRequest(Inbound, frozen=True, kw_only=True):
    """A ``prompt``, or ``messages`` as the chat API takes them; exactly one of the two.

    ``parse_special``: names of control tokens in ``prompt`` are those tokens.
    """

    model: ModelName | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)] | None = None
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
