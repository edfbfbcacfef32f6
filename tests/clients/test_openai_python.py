"""OpenAI's Python client with a key, its helpers, and its exceptions; against live servers.

What only the scripted server can show of it is in ``tests/server/test_openai_client.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest

from tests.clients.conftest import Servers
from tests.clients.expected import ANSWER, CHAT, ERRORS, PIECES
from tests.clients.stage import KEY, PARTS, WEATHER

pytestmark = pytest.mark.timeout(700)
MESSAGES: Any = [{"role": "user", "content": "今天下雨了"}]


class Weather(pydantic.BaseModel):
    sky: Literal["晴", "雨", "雪"]
    umbrella: bool


@pytest.fixture
def stage(servers: Servers) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=servers.stage, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def pocket(servers: Servers) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=servers.pocket, api_key="none", max_retries=0) as client:
        yield client


def test_chat_and_stream(stage: openai.OpenAI) -> None:
    """With a key: the same text whole and in pieces."""
    whole = stage.chat.completions.create(model="poet", messages=MESSAGES)
    chunks = stage.chat.completions.create(model="poet", messages=MESSAGES, stream=True)

    assert whole.choices[0].message.content == CHAT["text"]
    assert [text for chunk in chunks if (text := chunk.choices[0].delta.content)] == PIECES


def test_parse(pocket: openai.OpenAI) -> None:
    """A reply as an instance of a pydantic class, whole and by the stream helper."""
    asked: Any = {"model": "cat", "messages": MESSAGES, "response_format": Weather, "seed": 1}
    whole = pocket.chat.completions.parse(**asked)
    with pocket.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion()

    assert isinstance(whole.choices[0].message.parsed, Weather)
    assert streamed.choices[0].message.parsed == whole.choices[0].message.parsed


def test_models(stage: openai.OpenAI) -> None:
    """They can be listed and retrieved."""
    assert [model.id for model in stage.models.list()] == list(PARTS)
    assert stage.models.retrieve("poet").id == "poet"


REQUESTS: dict[str, Callable[[openai.OpenAI], Any]] = {
    "unknown model": lambda client: client.models.retrieve("nobody"),
    "out of bounds": lambda client: ask(client, "poet", temperature=3),
    "too long": lambda client: ask(client, "long"),
    "full": lambda client: ask(client, "busy"),
    "wrong key": lambda client: ask(client.with_options(api_key="wrong"), "poet"),
    "our fault": lambda client: ask(client, "broken"),
    "broken stream": lambda client: list(ask(client, "broken", stream=True)),
}


def ask(client: openai.OpenAI, model: str, **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=MESSAGES, **more)


@pytest.mark.parametrize("what", ERRORS)
def test_errors(stage: openai.OpenAI, what: str) -> None:
    """Each refusal is of the class that its users catch, and has our status."""
    name, status = ERRORS[what]
    with pytest.raises(openai.APIError) as caught:
        REQUESTS[what](stage)

    assert type(caught.value).__name__ == name
    assert getattr(caught.value, "status_code", None) == status


class City(pydantic.BaseModel):
    city: str


def test_tools(stage: openai.OpenAI) -> None:
    """Our function is called, told to the model, and answered with; streamed, the same call."""
    tools: Any = [openai.pydantic_function_tool(City, name="weather")]
    messages: Any = list(MESSAGES)
    calling = stage.chat.completions.parse(model="caller", messages=messages, tools=tools)
    message = calling.choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": WEATHER}
    answer = stage.chat.completions.create(
        model="caller", messages=[*messages, message, result], tools=tools
    )
    with stage.chat.completions.stream(model="caller", messages=messages, tools=tools) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls

    assert calling.choices[0].finish_reason == "tool_calls"
    assert call.function.parsed_arguments == City(city="北京")
    assert answer.choices[0].message.content == ANSWER
    assert streamed is not None
    assert streamed[0].function.parsed_arguments == City(city="北京")


def test_a_call_that_is_asked_for(pocket: openai.OpenAI) -> None:
    """The reply is a call with arguments of the pydantic class, whatever the model would say."""
    reply = pocket.chat.completions.parse(
        model="cat",
        messages=MESSAGES,
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=200,
    )

    calls = reply.choices[0].message.tool_calls
    assert calls is not None
    assert isinstance(calls[0].function.parsed_arguments, Weather)


def test_responses(stage: openai.OpenAI) -> None:
    """Whole, as a stream, and going on from one that called our function."""
    whole = stage.responses.create(model="poet", input="今天下雨了")
    with stage.responses.stream(model="poet", input="今天下雨了") as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        streamed = stream.get_final_response()
    tools: Any = [openai.pydantic_function_tool(City, name="weather")["function"]]
    tools[0]["type"] = "function"
    calling = stage.responses.parse(model="caller", input="今天下雨了", tools=tools)
    (call,) = calling.output
    assert call.type == "function_call"
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": WEATHER}
    answer = stage.responses.create(
        model="caller", input=[result], previous_response_id=calling.id, tools=tools
    )

    assert whole.output_text == streamed.output_text == CHAT["text"]
    assert pieces == PIECES
    assert json.loads(call.arguments) == {"city": "北京"}
    assert answer.output_text == ANSWER


def test_responses_of_a_given_shape(pocket: openai.OpenAI) -> None:
    """``responses.parse`` gives an instance of the pydantic class."""
    reply = pocket.responses.parse(model="cat", input="今天下雨了", text_format=Weather)

    assert isinstance(reply.output_parsed, Weather)
