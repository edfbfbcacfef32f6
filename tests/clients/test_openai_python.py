"""OpenAI's Python client with a key, its helpers, and its exceptions; against live servers.

What only the scripted server can show of it is in ``tests/server/test_openai_client.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest

from tests.clients.conftest import Servers
from tests.clients.expected import CHAT, ERRORS, PIECES
from tests.clients.stage import KEY, PARTS

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
