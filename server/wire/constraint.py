"""What a request holds its replies to, under whichever of several names it says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from server.wire.chat import ChatRequest, JsonObjectFormat, JsonSchemaFormat
from server.wire.errors import InvalidRequest
from server.wire.parameters import Parameters, StructuredOutputs

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}

_WITHIN = "structured_outputs"
_KINDS: tuple[Literal["choice", "regex", "grammar"], ...] = ("choice", "regex", "grammar")


class Constraint(Struct, frozen=True, kw_only=True):
    """One of the four, and ``param``: what the request calls it."""

    param: str
    schema: Mapping[str, Any] | None = None
    choice: Sequence[str] | None = None
    regex: str | None = None
    grammar: str | None = None


def constraint_of(asked: Parameters) -> Constraint | None:
    """What replies are held to; ``None``: any text will do.

    Raises:
        InvalidRequest: there are several, or one is not to be read; it names the parameter.
    """
    found = list(_constraints(asked))
    if len(found) > 1:
        first, second = found[0].param, found[1].param
        raise InvalidRequest(f"{second}: not together with {first}; say one of them.", second)
    given = asked.structured_outputs
    if given is None:
        return found[0] if found else None
    if given.disable_additional_properties:
        param = f"{_WITHIN}.disable_additional_properties"
        raise InvalidRequest(
            f'{param}: this server does not support it. Say "additionalProperties": false in the '
            "schema.",
            param,
            "unsupported_parameter",
        )
    if not any(one.param.startswith(_WITHIN) for one in found):
        raise InvalidRequest(
            f"{_WITHIN}: needs one of json, json_object, choice, regex and grammar.", _WITHIN
        )
    return found[0]


def _constraints(asked: Parameters) -> Iterator[Constraint]:
    if isinstance(asked, ChatRequest):
        match asked.response_format:
            case JsonSchemaFormat(json_schema=wanted):
                schema = ANY_OBJECT if wanted.schema is None else wanted.schema
                yield Constraint(param="response_format", schema=schema)
            case JsonObjectFormat():
                yield Constraint(param="response_format", schema=ANY_OBJECT)
            case _:
                pass
    given = asked.structured_outputs
    if given is not None:
        yield from _within(given)
    if asked.guided_json is not None:
        yield _of_json("guided_json", asked.guided_json)
    for kind in _KINDS:
        value = getattr(asked, f"guided_{kind}")
        if value is not None:
            yield Constraint(param=f"guided_{kind}", **{kind: value})


def _within(given: StructuredOutputs) -> Iterator[Constraint]:
    if given.json is not None:
        yield _of_json(f"{_WITHIN}.json", given.json)
    if given.json_object:
        yield Constraint(param=f"{_WITHIN}.json_object", schema=ANY_OBJECT)
    for kind in _KINDS:
        value = getattr(given, kind)
        if value is not None:
            yield Constraint(param=f"{_WITHIN}.{kind}", **{kind: value})


def _of_json(param: str, given: Mapping[str, Any] | str) -> Constraint:
    if not isinstance(given, str):
        return Constraint(param=param, schema=given)
    try:
        schema = msgspec.json.decode(given, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"{param}: has to be a JSON schema, as an object or as the text of one.", param
        ) from error
    return Constraint(param=param, schema=schema)
