"""Streams over real connections: their bytes, their ends, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import threading
from typing import Any

import httpx
import pytest

from server.engine.types import Generation, GenerationRequest
from tests.conftest import Live, LiveServer
from tests.fakes import Script
from tests.waiting import PATIENCE_S, eventually

USER = {"role": "user", "content": "你好"}


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": "poet", "messages": [USER], "stream": True, **fields}


def stream(server: Live, **fields: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/chat/completions", json=asked(**fields), timeout=PATIENCE_S)


def chunk(choices: str, usage: str = "") -> str:
    return (
        'data: {"id":"ID","object":"chat.completion.chunk","created":0,"model":"poet",'
        f'"system_fingerprint":"fp_digest-poet","choices":[{choices}]{usage}}}\n\n'
    )


def choice(delta: str, finish_reason: str = "null") -> str:
    return f'{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{finish_reason}}}'


def anonymous(raw: bytes) -> str:
    """The stream with its id and time replaced, after checking that all frames share them."""
    frames = [json.loads(line[6:]) for line in raw.decode().splitlines() if line[:7] == "data: {"]
    chunks = [frame for frame in frames if "error" not in frame]
    identities = {(frame["id"], frame["created"]) for frame in chunks}
    assert len(identities) <= 1
    text = raw.decode()
    for name, created in identities:
        text = text.replace(name, "ID").replace(f'"created":{created}', '"created":0')
    return text


def test_a_stream_byte_for_byte(live: LiveServer) -> None:
    """Role, text, finish, ``[DONE]``; empty deltas make no chunk; nothing else is sent."""
    with live(Script(pieces=("床前", "", "明月光"))) as server:
        raw = stream(server).content

    assert anonymous(raw) == (
        chunk(choice('"role":"assistant","content":""'))
        + chunk(choice('"content":"床前"'))
        + chunk(choice('"content":"明月光"'))
        + chunk(choice("", '"stop"'))
        + "data: [DONE]\n\n"
    )


def test_a_stream_with_usage_byte_for_byte(live: LiveServer) -> None:
    """``usage`` is null in all chunks but a last one without choices."""
    null = ',"usage":null'
    usage = (
        ',"usage":{"prompt_tokens":6,"completion_tokens":1,"total_tokens":7,'
        '"prompt_tokens_details":{"cached_tokens":5},'
        '"completion_tokens_details":{"reasoning_tokens":0}}'
    )
    with live(Script(pieces=("好",), reason="length", cached_tokens=5)) as server:
        raw = stream(server, stream_options={"include_usage": True}).content

    assert anonymous(raw) == (
        chunk(choice('"role":"assistant","content":""'), null)
        + chunk(choice('"content":"好"'), null)
        + chunk(choice("", '"length"'), null)
        + chunk("", usage)
        + "data: [DONE]\n\n"
    )


def test_an_empty_reply_is_a_whole_stream(live: LiveServer) -> None:
    """The role and the finish come even if the model says nothing."""
    with live(Script(pieces=("",))) as server:
        raw = stream(server).content

    assert anonymous(raw) == (
        chunk(choice('"role":"assistant","content":""'))
        + chunk(choice("", '"stop"'))
        + "data: [DONE]\n\n"
    )


def test_a_failure_in_the_middle_is_an_error_frame(live: LiveServer) -> None:
    """The status is sent already, so the failure is a frame, and ``[DONE]`` still ends it."""
    with live(Script(pieces=("a", "b"), fail_at=1)) as server:
        response = stream(server)

    assert response.status_code == 200
    assert anonymous(response.content) == (
        chunk(choice('"role":"assistant","content":""'))
        + chunk(choice('"content":"a"'))
        + 'data: {"error":{"message":"The scripted failure.","type":"server_error",'
        '"param":null,"code":"generation_failed"}}\n\n'
        "data: [DONE]\n\n"
    )


def test_a_failure_before_the_first_token_sends_no_role(live: LiveServer) -> None:
    """The role chunk says that a reply has begun."""
    with live(Script(fail_at=0)) as server:
        raw = stream(server).content

    assert raw.startswith(b'data: {"error":')
    assert raw.endswith(b"\n\ndata: [DONE]\n\n")


def test_any_text_stays_in_its_frame(live: LiveServer) -> None:
    """Line ends of every kind do not cut an event, whoever splits the lines."""
    text = 'a\n\nb\r\nc\u2028d\u2029e\x85f\x0b"\\</script>\x00\U0001f600data: [DONE]'
    with (
        live(Script(pieces=(text,))) as server,
        httpx.stream("POST", f"{server.url}/chat/completions", json=asked()) as response,
    ):
        lines = [line for line in response.iter_lines() if line]

    assert len(lines) == 4
    assert json.loads(lines[1].removeprefix("data: "))["choices"][0]["delta"]["content"] == text


def test_pings_keep_a_silent_stream_alive_and_harm_nobody(live: LiveServer) -> None:
    """Comments come while the model is silent; what clients parse is the same."""
    script = Script(pieces=("a", "b"), hold_at=1)
    with (
        live(script, ping_interval_s=0.02) as server,
        httpx.stream("POST", f"{server.url}/chat/completions", json=asked()) as response,
    ):
        raw = b""
        for piece in response.iter_raw():
            raw += piece
            if raw.count(b": ping") == 3:
                server.engine.release()

    lines = [line for line in raw.decode().split("\n") if line]
    assert sum(line.startswith(": ping") for line in lines) >= 3
    assert [line[:6] for line in lines if not line.startswith(":")] == ["data: "] * 5
    assert lines[-1] == "data: [DONE]"


def test_a_reader_that_leaves_a_stream_stops_the_work(live: LiveServer) -> None:
    """Closing the connection aborts the generation."""
    with live(Script(pieces=("a", "b"), hold_at=1)) as server:
        with httpx.stream("POST", f"{server.url}/chat/completions", json=asked()) as response:
            pieces = response.iter_raw()
            assert b'"content":"a"' in next(pieces)
            assert server.engine.running

        assert eventually(lambda: not server.engine.running)
        assert server.engine.aborted == [request.id for request in server.engine.requests]


def test_a_reader_that_leaves_before_the_first_token_stops_the_work(live: LiveServer) -> None:
    """Also while nothing but the header was sent."""
    with live(Script(hold_at=0)) as server:
        with httpx.stream("POST", f"{server.url}/chat/completions", json=asked()):
            assert eventually(lambda: bool(server.engine.running))

        assert eventually(lambda: bool(server.engine.aborted))


def test_a_client_that_hangs_up_on_a_whole_reply_stops_the_work(live: LiveServer) -> None:
    """Without ``stream`` nothing is sent until the end, but the leaving is seen at once."""
    with live(Script(hold_at=0), Script()) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/chat/completions", json=asked(stream=False), timeout=0.5)

        assert eventually(lambda: bool(server.engine.aborted))
        assert stream(server, stream=False).status_code == 200


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_client_that_hangs_up_before_it_is_admitted_gives_its_place_back(
    is_streamed: bool, live: LiveServer
) -> None:
    """While its adapter is loaded, say: the admission is cancelled, not left to go on."""
    events: list[str] = []

    async def endless(request: GenerationRequest) -> Generation:
        events.append("begun")
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    with live() as server:
        server.engine.submit = endless
        body = asked(stream=is_streamed)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/chat/completions", json=body, timeout=0.5)

        assert eventually(lambda: events == ["begun", "cancelled"])


def test_a_client_that_reads_nothing_is_cut_off(live: LiveServer) -> None:
    """A blocked send ends after its timeout, and so does the generation."""
    endless = Script(pieces=("x" * 100_000,) * 10_000)
    with live(endless, send_timeout_s=0.2) as server:
        address = ("127.0.0.1", int(server.serving.base_url.rpartition(":")[2]))
        body = json.dumps(asked()).encode()
        with socket.create_connection(address) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
                b"content-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )

            assert eventually(lambda: bool(server.engine.aborted))


def test_running_streams_finish_before_the_server_stops(live: LiveServer) -> None:
    """A stream that can end in time loses nothing when the server is told to stop."""
    received: list[bytes] = []
    with live(Script(pieces=("a", "b"), hold_at=1), drain_timeout_s=PATIENCE_S) as server:
        reader = threading.Thread(target=lambda: received.append(stream(server).content))
        reader.start()
        assert eventually(lambda: bool(server.engine.running))
        threading.Timer(0.3, server.engine.release).start()
    reader.join()

    assert received[0].endswith(b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    assert server.engine.is_closed


def test_streams_that_take_too_long_are_told(live: LiveServer) -> None:
    """After the drain timeout a stream ends with an error frame, not with silence."""
    received: list[bytes] = []
    with live(Script(pieces=("a", "b"), hold_at=1), drain_timeout_s=0.1) as server:
        reader = threading.Thread(target=lambda: received.append(stream(server).content))
        reader.start()
        assert eventually(lambda: bool(server.engine.running))
    reader.join()

    *_, error, done, empty = received[0].split(b"\n\n")
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "shutting_down"
    assert (done, empty) == (b"data: [DONE]", b"")


def test_a_whole_reply_that_takes_too_long_is_503(live: LiveServer) -> None:
    """Without a stream the same is a status."""
    received: list[httpx.Response] = []
    with live(Script(hold_at=0), drain_timeout_s=0.1) as server:
        reader = threading.Thread(target=lambda: received.append(stream(server, stream=False)))
        reader.start()
        assert eventually(lambda: bool(server.engine.running))
    reader.join()

    assert received[0].status_code == 503
    assert received[0].json()["error"]["code"] == "shutting_down"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_sees_the_tokens_as_they_come(live: LiveServer) -> None:
    """``curl -N`` prints the first token while the second is not there yet."""
    with live(Script(pieces=("a", "b"), hold_at=1)) as server:
        command = ["curl", "-sN", f"{server.url}/chat/completions"]
        command += ["-H", "content-type: application/json", "-d", json.dumps(asked())]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
            assert curl.stdout is not None
            first = [curl.stdout.readline() for _ in range(3)][2]
            assert b'"delta":{"content":"a"}' in first
            server.engine.release()
            rest = curl.stdout.read()

    assert rest.endswith(b"\n\ndata: [DONE]\n\n")
    assert curl.returncode == 0
