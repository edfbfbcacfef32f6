"""The examples of ``/v1/responses`` in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from server.http.sse import frame
from server.wire.response_events import ResponseCompleted, ResponseCreated
from server.wire.response_objects import (
    InputText,
    InputTokensDetails,
    ItemList,
    Message,
    OutputText,
    OutputTokensDetails,
    ResponseDeleted,
    ResponseObject,
    ResponseUsage,
)
from server.wire.responses import Reasoning, TextConfig

_ASKED = {"model": "cat", "input": "今天下雨了"}
_SAID = Message(id="msg_2", role="assistant", content=[OutputText(text="那就一起听雨吧。")])
_USAGE = ResponseUsage(
    input_tokens=21,
    input_tokens_details=InputTokensDetails(cached_tokens=16),
    output_tokens=9,
    output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
    total_tokens=30,
)
_BEGUN = ResponseObject(
    id="resp_1",
    created_at=1767225600,
    status="in_progress",
    instructions=None,
    max_output_tokens=None,
    max_tool_calls=None,
    model="cat",
    output=[],
    parallel_tool_calls=True,
    previous_response_id=None,
    prompt_cache_key=None,
    reasoning=Reasoning(),
    safety_identifier=None,
    store=True,
    temperature=0.3,
    text=TextConfig(),
    tool_choice="none",
    tools=[],
    top_logprobs=0,
    top_p=0.8,
    user=None,
    metadata={},
)
_WHOLE = msgspec.structs.replace(
    _BEGUN, status="completed", completed_at=1767225601, output=[_SAID], usage=_USAGE
)
_ITEM = Message(id="msg_1", role="user", content=[InputText(text="今天下雨了")])

REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "createResponse": {
        "an answer": _ASKED,
        "an answer as a stream": _ASKED | {"stream": True},
        "the next turn": {
            "model": "cat",
            "input": "那明天呢",
            "previous_response_id": f"resp_{'0' * 48}",
        },
        "an answer to as much of a conversation as fits": _ASKED | {"truncation": "auto"},
    }
}
ANSWERS: Mapping[str, Any] = {
    "createResponse": _WHOLE,
    "getResponse": _WHOLE,
    "deleteResponse": ResponseDeleted(id="resp_1"),
    "listInputItems": ItemList(data=[_ITEM], first_id=_ITEM.id, last_id=_ITEM.id, has_more=False),
}
STREAMS: Mapping[str, str] = {
    "createResponse": (
        frame(ResponseCreated(sequence_number=0, response=_BEGUN), "response.created")
        + frame(ResponseCompleted(sequence_number=8, response=_WHOLE), "response.completed")
    ).decode(),
}
