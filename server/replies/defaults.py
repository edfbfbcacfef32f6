"""From a request to messages and sampling, with the model's own defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from server.engine.types import ModelCard, SamplingParams
from server.wire.chat import (
    AssistantMessage,
    DeveloperMessage,
    Message,
    SystemMessage,
    ToolMessage,
    role_of,
    text_of,
)
from server.wire.conversation import thoughts_of
from server.wire.errors import InvalidRequest
from server.wire.parameters import Parameters
from server.wire.tools import GivenToolCall

_T = TypeVar("_T")


def conversation(given: Sequence[Message], card: ModelCard) -> list[Mapping[str, Any]]:
    """Messages as the chat template takes them.

    The model's own system prompt comes first where they bring none.

    Raises:
        InvalidRequest: the arguments of a call are no JSON object.
    """
    messages = [_shown(message, f"messages[{index}]") for index, message in enumerate(given)]
    is_instructed = any(isinstance(each, SystemMessage | DeveloperMessage) for each in given)
    if card.system_prompt is None or is_instructed:
        return messages
    return [{"role": "system", "content": card.system_prompt}, *messages]


def _shown(message: Message, where: str) -> Mapping[str, Any]:
    content = "" if message.content is None else text_of(message.content)
    shown: dict[str, Any] = {"role": role_of(message), "content": content}
    if isinstance(message, ToolMessage):
        shown["tool_call_id"] = message.tool_call_id
    if isinstance(message, AssistantMessage):
        if thoughts := thoughts_of(message):
            shown["reasoning_content"] = thoughts
        if message.tool_calls:
            shown["tool_calls"] = [
                _shown_call(call, f"{where}.tool_calls[{index}]")
                for index, call in enumerate(message.tool_calls)
            ]
    return shown


def _shown_call(call: GivenToolCall, where: str) -> Mapping[str, Any]:
    """With its arguments as an object, which all templates can write; no text means none."""
    text = call.function.arguments
    try:
        arguments = msgspec.json.decode(text, type=dict[str, Any]) if text.strip() else {}
    except (msgspec.DecodeError, RecursionError) as error:
        param = f"{where}.function.arguments"
        raise InvalidRequest(f"{param}: has to be a JSON object, as text.", param) from error
    function = {"name": call.function.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def sampling(
    request: Parameters,
    card: ModelCard,
    prompt_tokens: int,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    default_max_tokens: int | None = None,
    is_plain: bool = True,
) -> SamplingParams:
    """How to sample: what the request says, else the model's default, else the neutral value.

    ``max_tokens`` and ``logprobs`` are what was asked, for which each endpoint has its own names;
    ``default_max_tokens`` stands in for a model that has none. What the model has is meant for
    answers, so it does not hold for a reply that is not ``is_plain`` and may think or call.
    """
    defaults, neutral = card.sampling, SamplingParams()
    top_k = first_given(request.top_k, defaults.top_k, neutral.top_k)
    return SamplingParams(
        temperature=first_given(request.temperature, defaults.temperature, neutral.temperature),
        top_p=first_given(request.top_p, defaults.top_p, neutral.top_p),
        top_k=max(0, top_k),
        min_p=first_given(request.min_p, neutral.min_p),
        repetition_penalty=first_given(
            request.repetition_penalty, defaults.repetition_penalty, neutral.repetition_penalty
        ),
        presence_penalty=first_given(request.presence_penalty, neutral.presence_penalty),
        frequency_penalty=first_given(request.frequency_penalty, neutral.frequency_penalty),
        logit_bias=request.logit_bias or {},
        max_tokens=_default_max_tokens(
            (card.sampling.max_tokens if is_plain else None) or default_max_tokens,
            least=request.min_tokens or 0,
            room=card.context_length - prompt_tokens,
        )
        if max_tokens is None
        else max_tokens,
        min_tokens=request.min_tokens or 0,
        seed=request.seed,
        stop=_stop(request),
        stop_token_ids=tuple(request.stop_token_ids or ()),
        ignore_eos=bool(request.ignore_eos),
        logprobs=logprobs,
    )


def first_given(*candidates: _T | None) -> _T:
    """The first of ``candidates`` that is not ``None``; the last never is."""
    return next(value for value in candidates if value is not None)


def _default_max_tokens(default: int | None, *, least: int, room: int) -> int | None:
    """The model's own limit, unlike a client's, holds only as far as the context has room.

    It gives way to the least that the client did ask for.
    """
    if default is None:
        return None
    default = max(default, least)
    return min(default, room) if room > 0 else None


def _stop(request: Parameters) -> tuple[str, ...]:
    if request.stop is None:
        return ()
    return (request.stop,) if isinstance(request.stop, str) else tuple(request.stop)
