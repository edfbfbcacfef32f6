"""Bytes to a checked request; every way to be malformed becomes one clear refusal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from server.wire.allowed import allowed_at
from server.wire.chat import ChatRequest
from server.wire.conversation import check_conversation
from server.wire.errors import InvalidRequest
from server.wire.names import RULES
from server.wire.parameters import Parameters
from server.wire.text import CompletionRequest
from server.wire.tokens import TokenizeRequest

RequestT = TypeVar("RequestT", bound=Struct)

# Parameters that would change the reply, with the values that ask for nothing. Ignoring any other
# value would give the client something it did not ask for, so it is refused by name.
UNSUPPORTED_ANYWHERE: dict[str, tuple[object, ...]] = {
    "best_of": (1,),
    "allowed_token_ids": (),
    "bad_words": ([],),
    "use_beam_search": (False,),
    "prompt_embeds": (),
    "prompt_logprobs": (),
    "include_stop_str_in_output": (False,),
    "return_token_ids": (False,),
    "truncate_prompt_tokens": (),
    "thinking_token_budget": (),
    "grammar": ("",),
    "json_schema": (),
}
UNSUPPORTED_IN_CHAT = UNSUPPORTED_ANYWHERE | {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "modalities": (["text"],),
    "prediction": (),
    "web_search_options": (),
    "echo": (False,),
    "chat_template": (),
}
UNSUPPORTED_IN_TEXT = UNSUPPORTED_ANYWHERE | {
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "add_special_tokens": (True,),
}
UNSUPPORTED_IN_TOKENS: dict[str, tuple[object, ...]] = {
    "add_special_tokens": (True,),
    "chat_template": (),
}

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_WHERE = re.compile(r" - at `(?:key` in `)?\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]*)`$")
_INVALID = re.compile(r"^Invalid (?:enum )?value (?P<value>'.{1,64}')$", re.DOTALL)
_PRINTABLE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_MOST_NAMED = 16
_LONGEST_NAME = 100


class Decoded(Struct, Generic[RequestT], frozen=True):
    """The request, and the names of the fields in it that we do not know and ignored."""

    request: RequestT
    ignored: tuple[str, ...]


class Form(Generic[RequestT]):
    """One endpoint's bodies. ``prepare`` may change the fields of a body, or refuse them, first."""

    def __init__(
        self,
        request_type: type[RequestT],
        unsupported: Mapping[str, tuple[object, ...]],
        prepare: Callable[[dict[str, msgspec.Raw]], None] | None = None,
    ) -> None:
        self._type = request_type
        self._decoder = msgspec.json.Decoder(request_type)
        self._known = set(request_type.__struct_fields__) | unsupported.keys()
        self._unsupported = unsupported
        self._prepare = prepare

    def decode(self, body: bytes) -> Decoded[RequestT]:
        """Read a body.

        Raises:
            InvalidRequest: not JSON, not of the shape, out of bounds, or asking for something that
                is not supported; it names the parameter.
        """
        if not body.strip():
            raise InvalidRequest("The body is empty; send a JSON object.")
        try:
            text = body.decode()  # msgspec skips unknown values without looking at their encoding
            request = self._decoder.decode(self._prepared(text))
            fields = _FIELDS.decode(text)
            self._refuse_unsupported(fields)
        except msgspec.ValidationError as error:
            raise _located(str(error), self._type) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"The body is not valid JSON: {_reason(error)}.") from error
        except RecursionError as error:
            raise InvalidRequest("The body is nested too deeply.") from error
        named = sorted(name for name in fields.keys() - self._known if _PRINTABLE.fullmatch(name))
        return Decoded(request, tuple(named[:_MOST_NAMED]))

    def _prepared(self, text: str) -> str | bytes:
        if self._prepare is None:
            return text
        fields = _FIELDS.decode(text)
        self._prepare(fields)
        return msgspec.json.encode(fields)

    def _refuse_unsupported(self, fields: Mapping[str, msgspec.Raw]) -> None:
        for name in self._unsupported.keys() & fields.keys():
            value: Any = msgspec.json.decode(fields[name])
            if name == "best_of" and "n" in fields and value == msgspec.json.decode(fields["n"]):
                continue  # the best n of n are all of them
            if value is not None and value not in self._unsupported[name]:
                raise _unsupported(name)


_CHAT = Form(ChatRequest, UNSUPPORTED_IN_CHAT)
_TEXT = Form(CompletionRequest, UNSUPPORTED_IN_TEXT)
_TOKENIZE = Form(TokenizeRequest, UNSUPPORTED_IN_TOKENS)


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
    check_conversation(request)
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
    check_conversation(decoded.request)
    return decoded


def decode_body(body: bytes, request_type: type[RequestT]) -> Decoded[RequestT]:
    """Read the body of a request that has no parameters of others to refuse.

    Raises:
        InvalidRequest: it names the parameter.
    """
    return _form(request_type).decode(body)


@cache
def _form(request_type: type[RequestT]) -> Form[RequestT]:
    return Form(request_type, {})


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


def _located(text: str, request_type: type[Struct]) -> InvalidRequest:
    """Msgspec's ``... - at `$.messages[0].role``` as a message that starts with the field."""
    where = _WHERE.search(text)
    reason = text[: where.start()] if where else text
    param = where["path"] if where else ""
    if unknown := _UNKNOWN.match(reason):
        return _unsupported(f"{param}.{unknown['field']}"[:_LONGEST_NAME])
    if missing := _MISSING.match(reason):
        param = f"{param}.{missing['field']}".lstrip(".")
        reason = "is required"
    if not param:
        return InvalidRequest(f"The body: {reason}.")
    reason = next((rule for name, rule in RULES.items() if repr(name) in reason), reason)
    invalid = _INVALID.match(reason)
    if invalid and (known := allowed_at(request_type, param)):
        reason = f"{invalid['value']} is not supported; this server takes {', '.join(known)}"
        is_kind = param.endswith(".type")
        return InvalidRequest(
            f"{param}: {reason}.", param, "unsupported_parameter" if is_kind else None
        )
    return InvalidRequest(f"{param}: {reason}.", param)


def _unsupported(name: str) -> InvalidRequest:
    what = f"{name}: this server does not support it. Leave it out."
    return InvalidRequest(what, name, "unsupported_parameter")


def _reason(error: msgspec.DecodeError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it holds bytes that are no UTF-8"
    return str(error).removeprefix("JSON is malformed: ")
