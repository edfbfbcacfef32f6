"""The official ``openai`` client against a live server: what it parses, raises and reports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import openai
import pytest

from server.engine.errors import PromptTooLong, QueueFull
from tests.conftest import Live, LiveServer
from tests.fakes import Script
from tests.waiting import eventually

MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "你好"}]


@contextmanager
def sdk(server: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


def test_a_whole_reply(live: LiveServer) -> None:
    """Text, finish, usage and the request's id."""
    with live(Script(pieces=("床前", "明月光"))) as server, sdk(server) as client:
        completion = client.chat.completions.create(model="poet", messages=MESSAGES)

    assert completion.choices[0].message.content == "床前明月光"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 8
    assert completion._request_id is not None


def test_a_stream(live: LiveServer) -> None:
    """The pieces in order, the role first, usage last."""
    with live(Script(pieces=("床前", "明月光"))) as server, sdk(server) as client:
        chunks = list(
            client.chat.completions.create(
                model="poet",
                messages=MESSAGES,
                stream=True,
                stream_options={"include_usage": True},
            )
        )

    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert pieces == ["", "床前", "明月光", None]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2
    assert {chunk.usage for chunk in chunks[:-1]} == {None}


def test_the_stream_helper(live: LiveServer) -> None:
    """``.stream()`` accumulates our chunks into a completion."""
    with live(Script(pieces=("床前", "明月光"))) as server, sdk(server) as client:
        with client.chat.completions.stream(model="poet", messages=MESSAGES) as stream:
            deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()

    assert "".join(deltas) == "床前明月光"
    assert final.choices[0].message.content == "床前明月光"
    assert final.choices[0].finish_reason == "stop"


def test_the_async_client(live: LiveServer) -> None:
    """Several streams at once, each with its own reply."""

    async def replies(server: Live) -> list[str]:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:

            async def reply() -> str:
                stream = await client.chat.completions.create(
                    model="poet", messages=MESSAGES, stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(reply() for _ in range(8)))

    scripts = [Script(pieces=(f"{index}", "号"), delay_s=0.001) for index in range(8)]
    with live(*scripts) as server:
        assert sorted(asyncio.run(replies(server))) == [f"{index}号" for index in range(8)]


def test_the_models(live: LiveServer) -> None:
    """``models.list`` and ``models.retrieve``, with our additional fields within reach."""
    with live() as server, sdk(server) as client:
        assert [model.id for model in client.models.list()] == ["base", "poet"]
        poet = client.models.retrieve("poet")

    assert poet.owned_by == "lccc-chat"
    assert poet.model_dump()["parent"] == "base"


def test_an_unknown_model_is_not_found(live: LiveServer) -> None:
    """The class that users catch, with its code."""
    with live() as server, sdk(server) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="gpt-4", messages=MESSAGES)
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("Qwen/other")

    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert caught.value.request_id is not None


def test_a_bad_parameter_is_a_bad_request(live: LiveServer) -> None:
    """Also one of ours sent through ``extra_body``, also in a stream."""
    with live() as server, sdk(server) as client:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as caught:
                client.chat.completions.create(
                    model="poet", messages=MESSAGES, stream=stream, extra_body={"top_k": -5}
                )

    assert caught.value.param == "top_k"
    assert caught.value.type == "invalid_request_error"


def test_a_long_prompt_is_a_bad_request(live: LiveServer) -> None:
    """With the code that clients look for before they shorten the conversation."""
    script = Script(refusal=PromptTooLong(5000, None, 4096))
    with (
        live(script) as server,
        sdk(server) as client,
        pytest.raises(openai.BadRequestError) as caught,
    ):
        client.chat.completions.create(model="poet", messages=MESSAGES)

    assert caught.value.code == "context_length_exceeded"


def test_a_full_queue_is_a_rate_limit(live: LiveServer) -> None:
    """And with retries allowed the client waits as told and succeeds."""
    full = Script(refusal=QueueFull(64, 1.0))
    with live(full, full, Script()) as server, sdk(server) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="poet", messages=MESSAGES)
        patient = client.with_options(max_retries=1)
        assert patient.chat.completions.create(model="poet", messages=MESSAGES).choices

    assert caught.value.response.headers["retry-after"] == "1"
    assert len(server.engine.requests) == 3


def test_a_stream_that_breaks_off_raises(live: LiveServer) -> None:
    """The user of a stream notices, after the text up to there; so does one of a whole reply."""
    pieces: list[str | None] = []
    with live(Script(pieces=("a", "b"), fail_at=1)) as server, sdk(server) as client:
        stream = client.chat.completions.create(model="poet", messages=MESSAGES, stream=True)
        texts = (chunk.choices[0].delta.content for chunk in stream)
        with pytest.raises(openai.APIError, match="The scripted failure"):
            pieces.extend(texts)
        with pytest.raises(openai.InternalServerError, match="The scripted failure"):
            client.chat.completions.create(model="poet", messages=MESSAGES)

    assert pieces == ["", "a"]


def test_closing_a_stream_stops_the_work(live: LiveServer) -> None:
    """Leaving the ``with`` block of a stream is enough."""
    with live(Script(pieces=("a", "b"), hold_at=1)) as server:
        with (
            sdk(server) as client,
            client.chat.completions.create(model="poet", messages=MESSAGES, stream=True) as stream,
        ):
            next(iter(stream))
            assert server.engine.running
        assert eventually(lambda: bool(server.engine.aborted))


def test_pings_do_not_disturb_the_client(live: LiveServer) -> None:
    """Comments between events are not events."""
    script = Script(pieces=("a", "b", "c"), delay_s=0.05)
    with live(script, ping_interval_s=0.01) as server, sdk(server) as client:
        stream = client.chat.completions.create(model="poet", messages=MESSAGES, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert text == "abc"
