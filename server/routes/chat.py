"""``POST /v1/chat/completions``: admit the request, then answer whole or as a stream."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from litestar import Request, Response, post

from server.access import INFERENCE
from server.chat_reply import ChatReply
from server.choices import admit
from server.engine.types import Engine, ModelCard
from server.openapi import ERRORS, ChatOperation
from server.prompt import conversation, sampling, schema_of
from server.reply import Answer
from server.routes.answering import (
    body_of,
    choices_of,
    has_usage,
    headers_of,
    requests_for,
    respond,
    unless_gone,
)
from server.routes.provided import ProvidedEngine, ProvidedSettings
from server.security import require_json
from server.wire.chat import ChatRequest
from server.wire.completions import ChatCompletion
from server.wire.decode import decode_chat_request


@post(
    "/chat/completions",
    status_code=200,
    guards=[require_json],
    opt=INFERENCE,
    operation_id="createChatCompletion",
    operation_class=ChatOperation,
    summary="Continue a conversation",
    tags=["chat"],
    responses=ERRORS,
)
async def create_chat_completion(
    request: Request[Any, Any, Any],
    engine: ProvidedEngine,
    settings: ProvidedSettings,
) -> Response[ChatCompletion]:
    """Answer with a chat completion, or with `stream: true` as server-sent events.

    A stream ends with `data: [DONE]`. Fields that the server does not know are ignored and named
    in the response header `x-ignored-parameters`.
    """
    decoded = decode_chat_request(await body_of(request))
    asked = decoded.request
    card = engine.model(asked.model)
    id = f"chatcmpl-{uuid.uuid4().hex}"  # noqa: A001 - the wire's name
    # An adapter may have to be loaded first, or a place in memory awaited.
    answer = await unless_gone(_admit(engine, card, asked, id), request.receive)
    headers = headers_of(card, answer.generations[0], decoded.ignored)
    return await respond(request, settings, asked, ChatReply(answer), headers)


async def _admit(
    engine: Engine,
    card: ModelCard,
    asked: ChatRequest,
    id: str,  # noqa: A002 - the wire's name
) -> Answer:
    """Everything that can be refused is refused here, while the status is still open."""
    choices = choices_of(asked, engine)
    schema = schema_of(asked)
    grammar = None if schema is None else await engine.grammar(schema)
    prompt = await engine.prompt(conversation(asked.messages, card))
    how = sampling(
        asked,
        card,
        len(prompt),
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
    )
    how = replace(how, grammar=grammar)
    return Answer(
        id=id,
        model=card.name,
        generations=await admit(engine, requests_for(id, card, [(prompt, how)], choices)),
        choices=choices,
        piece=engine.piece,
        has_logprobs=bool(asked.logprobs),
        has_usage=has_usage(asked),
    )
