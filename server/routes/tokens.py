"""``POST /tokenize`` and ``POST /detokenize``: text to tokens and back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from litestar import Request, Response, post

from server.access.origins import require_json
from server.access.scopes import INFERENCE
from server.engine.types import Engine, ModelCard
from server.openapi.operations import TOKEN_ERRORS, TOKENIZE_ERRORS, taking
from server.replies.chat_prompt import chat_prompt
from server.replies.logprobs import token_text
from server.routes.answering import body_of, ignored_header
from server.routes.provided import ProvidedEngine
from server.wire.decode import decode_body, decode_tokenize_request
from server.wire.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest


@post(
    "/tokenize",
    status_code=200,
    guards=[require_json],
    opt=INFERENCE,
    operation_id="tokenize",
    operation_class=taking(TokenizeRequest),
    summary="Text to tokens",
    tags=["tokens"],
    response_description="The tokens.",
    responses=TOKENIZE_ERRORS,
)
async def tokenize(
    request: Request[Any, Any, Any],
    engine: ProvidedEngine,
) -> Response[Tokenized]:
    """The tokens of a text, or of a conversation as the chat API would begin a reply to it."""
    decoded = decode_tokenize_request(await body_of(request))
    asked = decoded.request
    card = _card(engine, asked.model)
    tokens = await _tokens(engine, card, asked)
    strings = await asyncio.to_thread(_strings, engine, tokens) if asked.return_token_strs else None
    answer = Tokenized(
        count=len(tokens),
        max_model_len=card.context_length,
        tokens=list(tokens),
        token_strs=strings,
    )
    return Response(answer, headers=ignored_header(decoded.ignored))


@post(
    "/detokenize",
    status_code=200,
    guards=[require_json],
    opt=INFERENCE,
    operation_id="detokenize",
    operation_class=taking(DetokenizeRequest),
    summary="Tokens to text",
    tags=["tokens"],
    response_description="The text.",
    responses=TOKEN_ERRORS,
)
async def detokenize(
    request: Request[Any, Any, Any],
    engine: ProvidedEngine,
) -> Response[Detokenized]:
    """The text of tokens, control tokens by name; ids beyond the vocabulary have none."""
    decoded = decode_body(await body_of(request), DetokenizeRequest)
    _card(engine, decoded.request.model)
    text = await asyncio.to_thread(engine.decode, decoded.request.tokens)  # there may be a million
    return Response(Detokenized(prompt=text), headers=ignored_header(decoded.ignored))


def _strings(engine: Engine, tokens: Sequence[int]) -> list[str]:
    return [token_text(engine.piece(token).name) for token in tokens]


def _card(engine: Engine, name: str | None) -> ModelCard:
    """All models of a server have the base's tokenizer, so none has to be named."""
    return engine.models()[0] if name is None else engine.model(name)


async def _tokens(engine: Engine, card: ModelCard, asked: TokenizeRequest) -> tuple[int, ...]:
    if asked.messages is not None:
        return await chat_prompt(asked, engine.dialect, card).tokens(
            engine, card, asked, must_fit=False
        )
    assert asked.prompt is not None
    return await engine.encode(
        asked.prompt, parse_special=bool(asked.parse_special), must_fit=False
    )
