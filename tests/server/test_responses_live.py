"""``/v1/responses`` over real connections: the official client, and clients that leave."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import Live, LiveServer
from tests.fakes import Script
from tests.waiting import eventually


def sdk(server: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


def test_the_official_client_goes_through_a_conversation(live: LiveServer) -> None:
    """Whole, streamed and by its helper, each from the one before; read again and deleted."""
    scripts = [Script(pieces=tuple(text)) for text in ("床前", "明月光", "疑是")]
    with live(*scripts) as server, sdk(server) as client:
        given: Any = {"model": "poet", "input": "然后？"}
        first = client.responses.create(**given)
        *_, last = client.responses.create(**given, previous_response_id=first.id, stream=True)
        assert last.type == "response.completed"
        second = last.response
        with client.responses.stream(**given, previous_response_id=second.id) as stream:
            snapshots = [
                event.snapshot for event in stream if event.type == "response.output_text.delta"
            ]
            third = stream.get_final_response()
        logprobs: Any = ["message.output_text.logprobs"]
        again = client.responses.retrieve(third.id, include=logprobs)
        client.responses.delete(third.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(third.id)

    assert [each.output_text for each in (first, second, third)] == ["床前", "明月光", "疑是"]
    assert snapshots == ["疑", "疑是"]
    assert again.output_text == "疑是"
    assert first._request_id is not None
    said = [message["content"] for message in server.engine.prompts[2]]
    assert said == ["然后？", "床前", "然后？", "明月光", "然后？"]


def test_a_failure_reaches_the_official_client(live: LiveServer) -> None:
    """As the last event of a stream, and as an error of a whole response."""
    with live(Script(pieces=("a", "b"), fail_at=1)) as server, sdk(server) as client:
        *_, last = client.responses.create(model="poet", input="?", stream=True)
        with pytest.raises(openai.InternalServerError, match="The scripted failure"):
            client.responses.create(model="poet", input="?")

    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.message == "The scripted failure."


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_client_that_leaves_stops_the_work(live: LiveServer, is_streamed: bool) -> None:
    """And nothing of what it would have read is kept."""
    with live(Script(pieces=("a", "b"), hold_at=1), Script()) as server:
        body = {"model": "poet", "input": "你好", "stream": is_streamed}
        if is_streamed:
            with httpx.stream("POST", f"{server.url}/responses", json=body) as response:
                lines = response.iter_lines()  # without its reader the stream would be closed
                assert any("response.output_text.delta" in line for line in lines)
                assert server.engine.running
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{server.url}/responses", json=body, timeout=0.5)

        assert eventually(lambda: bool(server.engine.aborted))
        name = server.engine.requests[0].id
        assert httpx.get(f"{server.url}/responses/{name}").status_code == 404


def test_a_stream_that_takes_too_long_at_the_end_fails(live: LiveServer) -> None:
    """A server that stops says so in the last event, not by silence."""
    received: list[Any] = []
    with live(Script(pieces=("a", "b"), hold_at=1), drain_timeout_s=0.1) as server:

        def read() -> None:
            with sdk(server) as client:
                received.extend(client.responses.create(model="poet", input="?", stream=True))

        reader = threading.Thread(target=read)
        reader.start()
        assert eventually(lambda: bool(server.engine.running))
    reader.join()

    last = received[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert "shutting down" in last.response.error.message


def test_pings_do_not_disturb_the_events(live: LiveServer) -> None:
    """Comments come between them while the model is silent."""
    script = Script(pieces=("a", "b", "c"), delay_s=0.05)
    with live(script, ping_interval_s=0.01) as server, sdk(server) as client:
        stream = client.responses.create(model="poet", input="你好", stream=True)
        text = "".join(one.delta for one in stream if one.type == "response.output_text.delta")

    assert text == "abc"
