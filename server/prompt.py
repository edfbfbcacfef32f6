"""From a chat request to messages and sampling, with the model's own defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from server.engine.types import ModelCard, SamplingParams
from server.wire.chat import ChatRequest, DeveloperMessage, SystemMessage, role_of, text_of

_T = TypeVar("_T")


def conversation(request: ChatRequest, card: ModelCard) -> list[Mapping[str, str]]:
    """The messages as the chat template takes them.

    The model's own system prompt comes first where the request brings none.
    """
    messages: list[Mapping[str, str]] = [
        {"role": role_of(message), "content": text_of(message.content)}
        for message in request.messages
    ]
    is_instructed = any(
        isinstance(message, SystemMessage | DeveloperMessage) for message in request.messages
    )
    if card.system_prompt is None or is_instructed:
        return messages
    return [{"role": "system", "content": card.system_prompt}, *messages]


def sampling(request: ChatRequest, card: ModelCard, prompt_tokens: int) -> SamplingParams:
    """How to sample: what the request says, else the model's default, else the neutral value."""
    defaults, neutral = card.sampling, SamplingParams()
    top_k = _first(request.top_k, defaults.top_k, neutral.top_k)
    return SamplingParams(
        temperature=_first(request.temperature, defaults.temperature, neutral.temperature),
        top_p=_first(request.top_p, defaults.top_p, neutral.top_p),
        top_k=max(0, top_k),
        min_p=_first(request.min_p, neutral.min_p),
        repetition_penalty=_first(
            request.repetition_penalty, defaults.repetition_penalty, neutral.repetition_penalty
        ),
        presence_penalty=_first(request.presence_penalty, neutral.presence_penalty),
        frequency_penalty=_first(request.frequency_penalty, neutral.frequency_penalty),
        logit_bias=request.logit_bias or {},
        max_tokens=_max_tokens(request, card, prompt_tokens),
        min_tokens=request.min_tokens or 0,
        seed=request.seed,
        stop=_stop(request),
        stop_token_ids=tuple(request.stop_token_ids or ()),
        ignore_eos=bool(request.ignore_eos),
    )


def _first(*candidates: _T | None) -> _T:
    return next(value for value in candidates if value is not None)


def _max_tokens(request: ChatRequest, card: ModelCard, prompt_tokens: int) -> int | None:
    """The client's limit as it is; the model's default only as far as the context has room.

    That default gives way to ``min_tokens``, which the client did ask for.
    """
    asked = request.max_completion_tokens or request.max_tokens
    default = card.sampling.max_tokens
    if asked is not None or default is None:
        return asked
    default = max(default, request.min_tokens or 0)
    room = card.context_length - prompt_tokens
    return min(default, room) if room > 0 else default


def _stop(request: ChatRequest) -> tuple[str, ...]:
    if request.stop is None:
        return ()
    return (request.stop,) if isinstance(request.stop, str) else tuple(request.stop)
