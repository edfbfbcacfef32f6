"""``/v1/responses``: make a response, and read or delete one that is kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from server.access.origins import require_json
from server.access.scopes import INFERENCE
from server.openapi.operations import ERRORS, KEPT_ERRORS, ResponsesOperation
from server.responses.admission import admit_response
from server.responses.store import Kept, ResponseStore
from server.routes.answering import body_of, headers_of, respond, unless_gone
from server.routes.provided import ProvidedEngine, ProvidedResponses, ProvidedSettings
from server.wire.decode_responses import decode_responses_request
from server.wire.errors import InvalidRequest, NotKept
from server.wire.response_objects import Item, ItemList, ResponseDeleted, ResponseObject

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="At most so many items.")]
Included = Annotated[
    list[Literal["message.output_text.logprobs"]] | None,
    QueryParameter(
        name="include[]",
        description="Accepted: what was asked for when the response was made is there anyway.",
    ),
]


@post(
    "/responses",
    status_code=200,
    guards=[require_json],
    opt=INFERENCE,
    operation_id="createResponse",
    operation_class=ResponsesOperation,
    summary="Answer, and keep what was said",
    tags=["responses"],
    responses=ERRORS,
)
async def create_response(
    request: Request[Any, Any, Any],
    engine: ProvidedEngine,
    settings: ProvidedSettings,
    responses: ProvidedResponses,
) -> Response[ResponseObject]:
    """Answer with a response, or with `stream: true` as server-sent events.

    Unless `store` is false it is kept, so that a later request can go on from it by
    `previous_response_id`: in memory, as long as there is room, for whoever knows its id.
    Fields that the server does not know are ignored and named in the response header
    `x-ignored-parameters`.
    """
    decoded = decode_responses_request(await body_of(request))
    asked = decoded.request
    card = engine.model(asked.model)
    reply = await unless_gone(admit_response(engine, card, asked, responses), request.receive)
    headers = headers_of(card, reply.answer.generations[0], decoded.ignored)
    return await respond(request, settings, asked, reply, headers)


@get(
    "/responses/{response_id:str}",
    opt=INFERENCE,
    operation_id="getResponse",
    summary="A response that is kept",
    tags=["responses"],
    response_description="The response.",
    responses=KEPT_ERRORS,
)
async def retrieve_response(
    response_id: FromPath[str],
    responses: ProvidedResponses,
    stream: FromQuery[bool] = False,
    include: Included = None,  # noqa: ARG001 - nothing is left out
) -> ResponseObject:
    """As it was answered. A response that has ended cannot be streamed again."""
    if stream:
        raise InvalidRequest(
            "stream: this server streams a response only while it is made. Leave it out.",
            "stream",
            "unsupported_parameter",
        )
    return _kept(responses, response_id).response


@delete(
    "/responses/{response_id:str}",
    status_code=200,
    opt=INFERENCE,
    operation_id="deleteResponse",
    summary="Forget a response",
    tags=["responses"],
    response_description="It is kept no longer.",
    responses=KEPT_ERRORS,
)
async def delete_response(
    response_id: FromPath[str],
    responses: ProvidedResponses,
) -> ResponseDeleted:
    """Those that went on from it stay."""
    if not responses.delete(response_id):
        raise _not_kept(response_id)
    return ResponseDeleted(id=response_id)


@get(
    "/responses/{response_id:str}/input_items",
    opt=INFERENCE,
    operation_id="listInputItems",
    summary="What a response answered",
    tags=["responses"],
    response_description="A page of items.",
    responses=KEPT_ERRORS,
)
async def list_input_items(
    response_id: FromPath[str],
    responses: ProvidedResponses,
    limit: Limit = 20,
    order: FromQuery[Literal["asc", "desc"]] = "desc",
    after: FromQuery[str | None] = None,
    include: Included = None,  # noqa: ARG001 - nothing is left out
) -> ItemList:
    """All items since its conversation began, the newest first unless `order` is `asc`."""
    items = _kept(responses, response_id).items
    return _page(items if order == "asc" else items[::-1], limit, after)


def _page(items: list[Item], limit: int, after: str | None) -> ItemList:
    """Those behind the item ``after``."""
    ids = [item.id for item in items]
    if after is not None and after not in ids:
        raise InvalidRequest(f"after: no item {after!r} is among them.", "after")
    begin = 0 if after is None else ids.index(after) + 1
    shown = items[begin : begin + limit]
    return ItemList(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=begin + limit < len(items),
    )


def _kept(responses: ResponseStore, id: str) -> Kept:  # noqa: A002 - the wire's name
    kept = responses.get(id)
    if kept is None:
        raise _not_kept(id)
    return kept


def _not_kept(id: str) -> NotKept:  # noqa: A002 - the wire's name
    return NotKept(
        f"No response {id!r} is kept: it was never made here, made with store: false, deleted, or "
        "gone to make room."
    )
