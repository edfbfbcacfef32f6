"""From a request for a response to one that is being written."""

from __future__ import annotations

from functools import partial

from server.engine.types import Engine, ModelCard, SamplingParams
from server.replies.admission import admit_chat
from server.replies.defaults import first_given
from server.replies.reply import Answer
from server.responses.chat import chat_of
from server.responses.ids import new_id
from server.responses.items import items_of
from server.responses.reply import ResponseReply
from server.responses.store import ResponseStore
from server.responses.truncation import fitting
from server.responses.turns import turns_of
from server.wire.chat import TextFormat
from server.wire.conversation import check_conversation
from server.wire.response_objects import ResponseObject
from server.wire.responses import Reasoning, ResponsesRequest, TextConfig

_NEUTRAL = SamplingParams()


async def admit_response(
    engine: Engine, card: ModelCard, asked: ResponsesRequest, store: ResponseStore
) -> ResponseReply:
    """Begin the response to ``asked`` by the model of ``card``.

    Everything that can be refused is refused here, while a status is still open.

    Raises:
        InvalidRequest: the request asks for what cannot be done; it names the parameter.
        EngineError: whatever else the engine refuses it with.
    """
    placed = items_of(asked, store)
    turns = list(turns_of(placed))
    chat = chat_of(asked, turns)
    with chat.own_words():
        check_conversation(chat.request)
    if asked.truncation == "auto":
        chat = await fitting(engine, card, asked, turns)
    with chat.own_words():
        answer = await admit_chat(engine, card, chat.request, new_id("resp"))
    is_kept = asked.store is not False and not store.is_off
    items = [each.item for each in placed]
    return ResponseReply(answer, _begun(asked, card, answer, is_kept), partial(store.put, items))


def _begun(
    asked: ResponsesRequest, card: ModelCard, answer: Answer, is_kept: bool
) -> ResponseObject:
    """The response before there is anything of it."""
    defaults = card.sampling
    text = asked.text or TextConfig()
    return ResponseObject(
        id=answer.id,
        created_at=answer.created,
        status="in_progress",
        instructions=asked.instructions,
        max_output_tokens=answer.max_tokens,
        max_tool_calls=asked.max_tool_calls,
        model=answer.model,
        output=[],
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        previous_response_id=asked.previous_response_id,
        prompt_cache_key=asked.prompt_cache_key,
        reasoning=asked.reasoning or Reasoning(),
        safety_identifier=asked.safety_identifier,
        store=is_kept,
        temperature=first_given(asked.temperature, defaults.temperature, _NEUTRAL.temperature),
        text=TextConfig(format=text.format or TextFormat(), verbosity=text.verbosity),
        tool_choice=asked.tool_choice or "auto",
        tools=asked.tools or [],
        top_logprobs=asked.top_logprobs or 0,
        truncation=asked.truncation or "disabled",
        top_p=first_given(asked.top_p, defaults.top_p, _NEUTRAL.top_p),
        user=asked.user,
        metadata=asked.metadata or {},
    )
