"""Bytes to a checked :class:`ChatRequest`; every way to be malformed becomes one clear refusal."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from server.wire.chat import ChatRequest
from server.wire.errors import InvalidRequest

# Parameters that would change the reply, with the values that ask for nothing. Ignoring any other
# value would give the client something it did not ask for, so it is refused by name.
UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "audio": (),
    "modalities": (["text"],),
    "prediction": (),
    "web_search_options": (),
    "best_of": (1,),
    "allowed_token_ids": (),
    "bad_words": ([],),
    "use_beam_search": (False,),
    "echo": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "chat_template": (),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
    "prompt_embeds": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
}

_REQUEST = msgspec.json.Decoder(ChatRequest)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_WHERE = re.compile(r" - at `(?:key` in `)?\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]*)`$")
_PRINTABLE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_MOST_NAMED = 16


class Decoded(Struct, frozen=True):
    """The request, and the names of the fields in it that we do not know and ignored."""

    request: ChatRequest
    ignored: tuple[str, ...]


def decode_chat_request(body: bytes) -> Decoded:
    """Read the body of a chat request.

    Raises:
        InvalidRequest: not JSON, not of the shape, out of bounds, or asking for something that is
            not supported; it names the parameter.
    """
    try:
        text = body.decode()  # msgspec skips unknown values without looking at their encoding
        request = _REQUEST.decode(text)
        fields = _FIELDS.decode(text)
        _refuse_unsupported(fields)
    except msgspec.ValidationError as error:
        raise _located(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {_reason(error)}.") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.") from error
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest(
            "stream_options: only allowed together with stream: true.", "stream_options"
        )
    most = request.max_completion_tokens or request.max_tokens
    if most is not None and (request.min_tokens or 0) > most:
        raise InvalidRequest(
            f"min_tokens: {request.min_tokens} is more than the most tokens, {most}.", "min_tokens"
        )
    unknown = fields.keys() - set(ChatRequest.__struct_fields__) - UNSUPPORTED.keys()
    named = sorted(name for name in unknown if _PRINTABLE.fullmatch(name))
    return Decoded(request, tuple(named[:_MOST_NAMED]))


def _refuse_unsupported(fields: dict[str, msgspec.Raw]) -> None:
    for name in UNSUPPORTED.keys() & fields.keys():
        value: Any = msgspec.json.decode(fields[name])
        if value is not None and value not in UNSUPPORTED[name]:
            raise InvalidRequest(
                f"{name}: this server does not support it. Leave it out.",
                name,
                "unsupported_parameter",
            )


def _located(text: str) -> InvalidRequest:
    """Msgspec's ``... - at `$.messages[0].role``` as a message that starts with the field."""
    where = _WHERE.search(text)
    reason = text[: where.start()] if where else text
    param = where["path"] if where else ""
    if missing := _MISSING.match(reason):
        param = f"{param}.{missing['field']}".lstrip(".")
        reason = "is required"
    if not param:
        return InvalidRequest(f"The body: {reason}.")
    return InvalidRequest(f"{param}: {reason}.", param)


def _reason(error: msgspec.DecodeError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it holds bytes that are no UTF-8"
    return str(error).removeprefix("JSON is malformed: ")
