"""``POST /v1/chat/completions``: admit the request, then answer whole or as a stream."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import quote

from litestar import Request, Response, post
from litestar.exceptions import InternalServerException
from litestar.types import Receive

from server.engine.types import Engine, Generation, GenerationRequest, ModelCard
from server.errors import ClientGone
from server.openapi import ERRORS, ChatOperation
from server.prompt import conversation, sampling
from server.reply import Reply
from server.routes.provided import ProvidedEngine, ProvidedSettings
from server.security import require_json
from server.sse import EventStream
from server.wire.chat import ChatRequest
from server.wire.completions import ChatCompletion
from server.wire.decode import decode_chat_request

_T = TypeVar("_T")


@post(
    "/chat/completions",
    status_code=200,
    guards=[require_json],
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
    decoded = decode_chat_request(await _body(request))
    asked = decoded.request
    card = engine.model(asked.model)
    # An adapter may have to be loaded first, or a place in memory awaited.
    generation = await _unless_gone(_admit(engine, card, asked), request.receive)
    headers = _headers(card, generation, decoded.ignored)
    if not asked.stream:
        whole = Reply(generation, card.name).completion()
        try:
            completion = await _unless_gone(whole, request.receive)
        finally:
            generation.abort()
        return Response(completion, headers=headers)
    has_usage = asked.stream_options is not None and asked.stream_options.include_usage
    return EventStream(
        Reply(generation, card.name, has_usage=has_usage).frames(),
        close=generation.abort,
        headers=headers,
        ping_interval_s=settings.ping_interval_s,
        send_timeout_s=settings.send_timeout_s,
    )


async def _body(request: Request[Any, Any, Any]) -> bytes:
    try:
        return await request.body()
    except InternalServerException as error:  # Litestar's word for a client that hung up
        raise ClientGone from error


async def _admit(engine: Engine, card: ModelCard, asked: ChatRequest) -> Generation:
    """Everything that can be refused is refused here, while the status is still open."""
    prompt = await engine.prompt(conversation(asked, card))
    return await engine.submit(
        GenerationRequest(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            model=card.name,
            prompt=prompt,
            sampling=sampling(asked, card, len(prompt)),
        )
    )


def _headers(card: ModelCard, generation: Generation, ignored: tuple[str, ...]) -> dict[str, str]:
    headers: dict[str, str] = {}
    if card.parent is not None:
        headers["x-adapter-id"] = quote(card.name, safe="/:@ ")
        headers["x-adapter-version"] = generation.digest[:12]
    if ignored:
        headers["x-ignored-parameters"] = ", ".join(ignored)
    return headers


async def _unless_gone(work: Coroutine[Any, Any, _T], receive: Receive) -> _T:
    """The result of ``work``, given up as soon as the client closes the connection.

    Raises:
        ClientGone: it did.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnection(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
