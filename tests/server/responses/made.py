"""Responses and items with plausible values for whatever a test leaves out."""

from __future__ import annotations

from server.wire.chat import TextFormat
from server.wire.response_objects import (
    InputText,
    Item,
    Message,
    OutputItem,
    OutputText,
    ResponseObject,
)
from server.wire.responses import Reasoning, TextConfig


def said(name: str, text: str = "你好") -> Message:
    """What a user said."""
    return Message(id=name, role="user", content=[InputText(text=text)])


def answered(name: str, text: str = "你好呀") -> Message:
    """What a model said."""
    return Message(id=name, role="assistant", content=[OutputText(text=text)])


def response(name: str, *output: OutputItem) -> ResponseObject:
    """A response with this output."""
    return ResponseObject(
        id=name,
        created_at=1,
        status="completed",
        instructions=None,
        max_output_tokens=None,
        max_tool_calls=None,
        model="poet",
        output=list(output),
        parallel_tool_calls=True,
        previous_response_id=None,
        prompt_cache_key=None,
        reasoning=Reasoning(),
        safety_identifier=None,
        store=True,
        temperature=1.0,
        text=TextConfig(format=TextFormat()),
        tool_choice="auto",
        tools=[],
        top_logprobs=0,
        top_p=1.0,
        user=None,
        metadata={},
    )


def ids(items: list[Item]) -> list[str]:
    """Of items, in order."""
    return [item.id for item in items]
