"""Bytes to a checked request; every way to be malformed becomes one clear refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from server.wire.chat import ChatRequest
from server.wire.errors import InvalidRequest
from server.wire.lora import LoadAdapterRequest, UnloadAdapterRequest
from server.wire.parameters import Parameters
from server.wire.text import CompletionRequest
from server.wire.tokens import DetokenizeRequest, TokenizeRequest

RequestT = TypeVar("RequestT", bound=Struct)

# Parameters that would change the reply, with the values that ask for nothing. Ignoring any other
# value would give the client something it did not ask for, so it is refused by name.
UNSUPPORTED_ANYWHERE: dict[str, tuple[object, ...]] = {
    "best_of": (1,),
    "allowed_token_ids": (),
    "bad_words": ([],),
    "use_beam_search": (False,),
    "prompt_embeds": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
}
UNSUPPORTED_IN_CHAT = UNSUPPORTED_ANYWHERE | {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "modalities": (["text"],),
    "prediction": (),
    "web_search_options": (),
    "echo": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "chat_template": (),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
}
UNSUPPORTED_IN_TEXT = UNSUPPORTED_ANYWHERE | {
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "add_special_tokens": (True,),
}
UNSUPPORTED_IN_TOKENS: dict[str, tuple[object, ...]] = {
    "add_generation_prompt": (True,),
    "add_special_tokens": (True,),
    "continue_final_message": (False,),
    "chat_template": (),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
    "tools": ([],),
}

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_WHERE = re.compile(r" - at `(?:key` in `)?\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]*)`$")
_PRINTABLE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_MOST_NAMED = 16


class Decoded(Struct, Generic[RequestT], frozen=True):
    """The request, and the names of the fields in it that we do not know and ignored."""

    request: RequestT
    ignored: tuple[str, ...]


class _Form(Generic[RequestT]):
    """One endpoint's bodies."""

    def __init__(
        self, request_type: type[RequestT], unsupported: Mapping[str, tuple[object, ...]]
    ) -> None:
        self._decoder = msgspec.json.Decoder(request_type)
        self._known = set(request_type.__struct_fields__) | unsupported.keys()
        self._unsupported = unsupported

    def decode(self, body: bytes) -> Decoded[RequestT]:
        """Read a body.

        Raises:
            InvalidRequest: not JSON, not of the shape, out of bounds, or asking for something that
                is not supported; it names the parameter.
        """
        try:
            text = body.decode()  # msgspec skips unknown values without looking at their encoding
            request = self._decoder.decode(text)
            fields = _FIELDS.decode(text)
            self._refuse_unsupported(fields)
        except msgspec.ValidationError as error:
            raise _located(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"The body is not valid JSON: {_reason(error)}.") from error
        except RecursionError as error:
            raise InvalidRequest("The body is nested too deeply.") from error
        named = sorted(name for name in fields.keys() - self._known if _PRINTABLE.fullmatch(name))
        return Decoded(request, tuple(named[:_MOST_NAMED]))

    def _refuse_unsupported(self, fields: Mapping[str, msgspec.Raw]) -> None:
        for name in self._unsupported.keys() & fields.keys():
            value: Any = msgspec.json.decode(fields[name])
            if name == "best_of" and "n" in fields and value == msgspec.json.decode(fields["n"]):
                continue  # the best n of n are all of them
            if value is not None and value not in self._unsupported[name]:
                raise InvalidRequest(
                    f"{name}: this server does not support it. Leave it out.",
                    name,
                    "unsupported_parameter",
                )


_CHAT = _Form(ChatRequest, UNSUPPORTED_IN_CHAT)
_TEXT = _Form(CompletionRequest, UNSUPPORTED_IN_TEXT)
_TOKENIZE = _Form(TokenizeRequest, UNSUPPORTED_IN_TOKENS)
_DETOKENIZE = _Form(DetokenizeRequest, {})
_LOAD = _Form(LoadAdapterRequest, {})
_UNLOAD = _Form(UnloadAdapterRequest, {})


def decode_chat_request(body: bytes) -> Decoded[ChatRequest]:
    """Read the body of a chat request.

    Raises:
        InvalidRequest: it names the parameter.
    """
    decoded = _CHAT.decode(body)
    request = decoded.request
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequest(
            "top_logprobs: only allowed together with logprobs: true.", "top_logprobs"
        )
    _check(request, request.max_completion_tokens or request.max_tokens)
    return decoded


def decode_completion_request(body: bytes) -> Decoded[CompletionRequest]:
    """Read the body of a request for a text completion.

    Raises:
        InvalidRequest: it names the parameter.
    """
    decoded = _TEXT.decode(body)
    request = decoded.request
    if isinstance(request.prompt, list) and len({type(part) for part in request.prompt}) > 1:
        raise InvalidRequest(
            "prompt: a list holds texts, token ids, or lists of token ids; not several of them.",
            "prompt",
        )
    if request.echo and request.logprobs is not None:
        raise InvalidRequest(
            "echo: not together with logprobs, which this server has of replies only.",
            "echo",
            "unsupported_parameter",
        )
    _check(request, request.max_tokens)
    return decoded


def decode_tokenize_request(body: bytes) -> Decoded[TokenizeRequest]:
    """Read the body of a request for tokens.

    Raises:
        InvalidRequest: it names the parameter.
    """
    decoded = _TOKENIZE.decode(body)
    if (decoded.request.prompt is None) == (decoded.request.messages is None):
        raise InvalidRequest("prompt: needed is either prompt or messages.", "prompt")
    return decoded


def decode_detokenize_request(body: bytes) -> Decoded[DetokenizeRequest]:
    """Read the body of a request for the text of tokens.

    Raises:
        InvalidRequest: it names the parameter.
    """
    return _DETOKENIZE.decode(body)


def decode_load_request(body: bytes) -> Decoded[LoadAdapterRequest]:
    """Read the body of a request to register an adapter.

    Raises:
        InvalidRequest: it names the parameter.
    """
    return _LOAD.decode(body)


def decode_unload_request(body: bytes) -> Decoded[UnloadAdapterRequest]:
    """Read the body of a request to forget an adapter.

    Raises:
        InvalidRequest: it names the parameter.
    """
    return _UNLOAD.decode(body)


def _check(request: Parameters, most: int | None) -> None:
    """What no type says. ``most``: the most tokens that were asked for."""
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest(
            "stream_options: only allowed together with stream: true.", "stream_options"
        )
    if most is not None and (request.min_tokens or 0) > most:
        raise InvalidRequest(
            f"min_tokens: {request.min_tokens} is more than the most tokens, {most}.", "min_tokens"
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
