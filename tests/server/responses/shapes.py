"""OpenAI's shapes, by the types of its own client: what is required is there, and nothing else."""

from __future__ import annotations

import json
from typing import Any, get_args

import pydantic
from openai.types.responses import Response, ResponseStreamEvent

# What OpenAI's servers send too although the client's types do not name it (all of them or some).
_UNNAMED = {"store", "bytes", "name"}

_EVENTS: dict[str, type[pydantic.BaseModel]] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind
    for kind in get_args(get_args(ResponseStreamEvent)[0])
}


def unnamed(value: Any) -> set[str]:
    """Fields that no type names, at any depth."""
    if isinstance(value, list):
        return {name for each in value for name in unnamed(each)}
    if not isinstance(value, pydantic.BaseModel):
        return set()
    inner = {name for _, each in value for name in unnamed(each)}
    return inner | (value.model_extra or {}).keys()


def checked_response(data: Any) -> Response:
    """The client's response; a required field that is missing, or a strange one, is a failure."""
    response = Response.model_validate(data)
    assert unnamed(response) <= _UNNAMED
    return response


def checked_event(data: Any) -> Any:
    """The client's event of the same type."""
    event = _EVENTS[data["type"]].model_validate(data)
    assert unnamed(event) <= _UNNAMED
    return event


def read_events(text: str) -> list[dict[str, Any]]:
    """The same of the text of a stream, of which nothing else is allowed but comments."""
    assert text.endswith("\n\n")
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        name, data = lines
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        checked_event(event)
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found
