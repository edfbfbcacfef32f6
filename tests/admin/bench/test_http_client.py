"""The client: what it notes of a real server's stream, and how it names what goes wrong."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise

import pytest

from admin.bench.errors import BenchFailed
from admin.bench.http_client import HttpClient, full_length
from admin.bench.timeline import Timeline
from server.engine.errors import QueueFull
from tests.admin.bench.misbehaving import DONE, END, HEAD, TEXT, answering
from tests.conftest import LiveServer
from tests.fakes import Script

BODY = {
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}


def chat(url: str, model: str = "base") -> Timeline:
    return asyncio.run(HttpClient(url).chat(model, BODY))


def of(*pieces: bytes, timeout_s: float = 20, then_wait: bool = False) -> Timeline:
    """What is noted of a server that sends ``pieces``."""

    async def ask() -> Timeline:
        async with answering(*pieces, then_wait=then_wait) as url:
            return await HttpClient(url, timeout_s=timeout_s).chat("m", BODY)

    return asyncio.run(ask())


def test_a_reply_is_noted_token_by_token(live: LiveServer) -> None:
    """Each text has its moment, in order and as far apart as the server sent them."""
    with live(Script(pieces=("a", "b", "c"), delay_s=0.05, cached_tokens=1)) as server:
        noted = chat(server.url, "poet")

    assert (noted.failure, noted.model, noted.text) == (None, "poet", "abc")
    assert (noted.prompt_tokens, noted.cached_tokens, noted.output_tokens) == (2, 1, 3)
    assert noted.counted == "usage"
    assert len(noted.text_s) == 3
    assert noted.ttft_s >= 0.04
    assert all(later - earlier > 0.03 for earlier, later in pairwise(noted.text_s))


def test_many_at_once_are_kept_apart(live: LiveServer) -> None:
    """Thirty-two streams, each with its own tokens."""

    async def ask(url: str) -> list[Timeline]:
        client = HttpClient(url)
        return await asyncio.gather(*(client.chat("base", BODY) for _ in range(32)))

    scripts = [Script(pieces=(str(index), "x", "y")) for index in range(32)]
    with live(*scripts) as server:
        noted = asyncio.run(ask(server.url))

    assert {each.failure for each in noted} == {None}
    assert sorted(each.text for each in noted) == sorted(f"{index}xy" for index in range(32))


def test_the_first_model_is_the_base(live: LiveServer) -> None:
    """As the server lists them."""
    with live() as server:
        assert asyncio.run(HttpClient(f"{server.url}/").models()) == ["base", "poet"]


def test_a_refusal_is_named_with_status_and_reason(live: LiveServer) -> None:
    """In the server's own words; so is a failure in the middle of the stream."""
    with live(Script(refusal=QueueFull(64, 9.0))) as server:
        refused = chat(server.url)
    with live(Script(pieces=("a", "b"), fail_at=1)) as server:
        broken = chat(server.url)

    assert refused.failure is not None
    assert refused.failure.startswith("status 429: The server is busy: 64 requests are waiting.")
    assert broken.failure == "the reply broke off: The scripted failure."


def test_an_unknown_model_is_a_failure(live: LiveServer) -> None:
    """Never anything else in its place."""
    with live() as server:
        assert "status 404" in str(chat(server.url, "nobody").failure)


def test_a_port_where_nobody_listens() -> None:
    """A failure of the request, and a clear end where the models are asked for."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        assert "no connection: " in str(chat(url).failure)
        with pytest.raises(BenchFailed, match="did not list its models: no connection"):
            asyncio.run(HttpClient(url).models())


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://host/v1", "http://", "http:/x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(BenchFailed, match="is no address of a server"):
        HttpClient(url)


def test_a_server_without_usage_is_counted_by_chunks() -> None:
    """A comment, a role and an end without text are no tokens."""
    role = b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'

    noted = of(HEAD, b": ping\n\n", role, TEXT, TEXT[:40], TEXT[40:] + END, DONE)

    assert (noted.failure, noted.output_tokens, noted.counted) == (None, 2, "chunks")
    assert len(noted.text_s) == 2


def test_thoughts_are_tokens_too() -> None:
    """A reasoning model's first words come in a field of their own."""
    thought = b'data: {"choices": [{"delta": {"reasoning_content": "hm"}}]}\n\n'

    assert of(HEAD, thought, TEXT, END, DONE).text == "hma"


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ((), "the server closed the connection without an answer|the connection broke"),
        ((HEAD, b"data: {not json}\n\n"), "an event is no chunk of a reply .*not json"),
        ((HEAD, b'data: {"choices": "x"}\n\n'), "an event is no chunk of a reply .*Expected"),
        ((HEAD, TEXT), "the reply broke off without a finish reason"),
        ((HEAD, END, DONE), "the reply has no text"),
        ((HEAD, b'data: {"error": {"message": "out of memory"}}\n\n'), "broke off: out of memory"),
        ((HEAD, b'data: {"error": "plain"}\n\n'), "broke off: plain"),
        ((b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nwhat",), "status 500: what"),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), "status 204: no reason given"),
        ((b"SSH-2.0-OpenSSH\r\n\r\n",), "the connection broke: "),
        ((HEAD.replace(b"close", b"close\r\ncontent-length: 9999"), TEXT), "the connection broke"),
    ],
)
def test_every_way_to_fail_has_its_words(pieces: tuple[bytes, ...], reason: str) -> None:
    """And ends the one request alone."""
    import re

    failure = of(*pieces).failure

    assert failure is not None
    assert re.search(reason, failure), failure


def test_a_silent_server_is_given_up() -> None:
    """After the time that a request may take."""
    assert of(HEAD, TEXT, then_wait=True, timeout_s=0.2).failure == "no end after 0.2 s"


def test_a_request_asks_for_its_full_length() -> None:
    """Neither shorter nor longer, streamed, with usage, greedy."""
    assert full_length([], 7) == {
        "messages": [],
        "max_tokens": 7,
        "min_tokens": 7,
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_key_is_sent_as_a_bearer_token() -> None:
    """In the header that OpenAI's clients use."""
    heard: list[bytes] = []

    async def ask() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await HttpClient(f"http://127.0.0.1:{port}/v1", api_key="k1").chat("m", BODY)
        server.close()

    asyncio.run(ask())

    assert b"\r\nauthorization: bearer k1\r\n" in heard[0].lower()
    assert heard[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
