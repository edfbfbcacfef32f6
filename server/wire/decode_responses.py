"""Bodies of the responses API to checked requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from server.wire.decode import UNSUPPORTED_ANYWHERE, Decoded, Form
from server.wire.errors import InvalidRequest
from server.wire.responses import ResponsesRequest

# As in ``server.wire.decode``: with the values that ask for nothing.
UNSUPPORTED_IN_RESPONSES = UNSUPPORTED_ANYWHERE | {
    "access_programs": (),
    "background": (False,),
    "background_options": ({},),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "moderation": (),
    "n": (1,),
    "prompt": (),
    "prompt_cache_options": ({}, {"mode": "implicit"}),
    "audio": (),
    "modalities": (["text"],),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
}

# Names of the chat API, and what this one calls the same thing.
MOVED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": 'include: ["message.output_text.logprobs"]',
    "functions": "tools",
    "function_call": "tool_choice",
}

_ITEMS = ("message", "function_call", "function_call_output", "reasoning", "item_reference")
_PARTS = ("input_text", "output_text")
_THOUGHTS = ("reasoning_text",)
_TOOLS = ("function",)
_CHOICES = ("function", "allowed_tools")
_INCLUDES = ("message.output_text.logprobs",)
_MOST_SHOWN = 40


def decode_responses_request(body: bytes) -> Decoded[ResponsesRequest]:
    """Read the body of a request for a response.

    Raises:
        InvalidRequest: it names the parameter.
    """
    decoded = _RESPONSES.decode(body)
    request = decoded.request
    if request.top_logprobs and not request.include:
        raise InvalidRequest(
            f"top_logprobs: only allowed together with {MOVED['logprobs']}.", "top_logprobs"
        )
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest(
            "stream_options: only allowed together with stream: true.", "stream_options"
        )
    most = request.max_output_tokens
    if most is not None and (request.min_tokens or 0) > most:
        raise InvalidRequest(
            f"min_tokens: {request.min_tokens} is more than max_output_tokens, {most}.",
            "min_tokens",
        )
    return decoded


def _prepare(fields: dict[str, msgspec.Raw]) -> None:
    """Give items the types that they may leave out, and refuse what this server does not have."""
    for name in MOVED.keys() & fields.keys():
        if _value(fields, name) is not None:
            _refuse(name, f"here it is called {MOVED[name]}")
    items = _value(fields, "input")
    if isinstance(items, list):
        _check_items(items)
        fields["input"] = msgspec.Raw(msgspec.json.encode(items))
    _check_tools(_value(fields, "tools"), _value(fields, "tool_choice"))
    for index, value in enumerate(_list(_value(fields, "include"))):
        _one_of(_INCLUDES, value, f"include[{index}]")
    reasoning = _value(fields, "reasoning")
    for name, harmless in (("summary", (None, "auto")), ("generate_summary", (None,))):
        if isinstance(reasoning, dict) and reasoning.get(name) not in harmless:
            _refuse(f"reasoning.{name}", "this server shows the thoughts themselves, no summary")


def _check_items(items: list[Any]) -> None:
    for index, item in enumerate(items):
        if isinstance(item, dict):
            _check_item(item, f"input[{index}]")


def _check_item(item: dict[str, Any], where: str) -> None:
    if item.get("type") is None and ("role" in item or "id" in item):
        item["type"] = "message" if "role" in item else "item_reference"
    kind = item.get("type")
    _one_of(_ITEMS, kind, f"{where}.type")
    name = "output" if kind == "function_call_output" else "content"
    parts = _THOUGHTS if kind == "reasoning" else _PARTS
    for place, part in enumerate(_list(item.get(name))):
        if isinstance(part, dict):
            _one_of(parts, part.get("type"), f"{where}.{name}[{place}].type")


def _check_tools(tools: Any, choice: Any) -> None:
    for index, tool in enumerate(_list(tools)):
        if isinstance(tool, dict):
            _one_of(_TOOLS, tool.get("type"), f"tools[{index}].type")
            if isinstance(tool.get("function"), dict):
                _refuse(f"tools[{index}].function", "here its fields stand beside the type")
    if isinstance(choice, dict):
        _one_of(_CHOICES, choice.get("type"), "tool_choice.type")
        if isinstance(choice.get("function"), dict):
            _refuse("tool_choice.function", "here its name stands beside the type")


def _one_of(supported: tuple[str, ...], value: Any, where: str) -> None:
    """Refuse another text. What is no text at all is left to the decoder."""
    if isinstance(value, str) and value not in supported:
        shown = value if len(value) <= _MOST_SHOWN else f"{value[:_MOST_SHOWN]}…"
        _refuse(where, f"{shown!r} is not supported; this server takes {', '.join(supported)}")


def _refuse(param: str, reason: str) -> NoReturn:
    raise InvalidRequest(f"{param}: {reason}.", param, "unsupported_parameter")


def _value(fields: Mapping[str, msgspec.Raw], name: str) -> Any:
    try:
        return msgspec.json.decode(fields[name]) if name in fields else None
    except msgspec.ValidationError as error:  # a number that no float can hold
        raise InvalidRequest(f"{name}: {error}.", name) from error


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


_RESPONSES = Form(ResponsesRequest, UNSUPPORTED_IN_RESPONSES, _prepare)
