"""``POST /v1/chat/completions``: admit the request, then answer whole or as a stream."""

from __future__ import annotations

import uuid
from typing import Any

from litestar import Request, Response, post

from server.access.origins import require_json
from server.access.scopes import INFERENCE
from server.openapi.operations import ERRORS, ChatOperation
from server.replies.admission import admit_chat
from server.replies.chat import ChatReply
from server.routes.answering import body_of, headers_of, respond, unless_gone
from server.routes.provided import ProvidedEngine, ProvidedSettings
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
    answer = await unless_gone(admit_chat(engine, card, asked, id), request.receive)
    headers = headers_of(card, answer.generations[0], decoded.ignored)
    return await respond(request, settings, asked, ChatReply(answer), headers)
