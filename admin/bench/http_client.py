"""A lean client of OpenAI's chat API: one asyncio stream and one h11 parser a request.

It shares the machine's cores with the server that it measures. At 32 streams of 10 tokens a second
on two cores of an AMD EPYC it took 3.5 to 3.7 % of a core; httpx took 11 to 12 % for the same, and
reading the chunks by hand without h11 2 to 3 %.

Each request has a connection of its own, as a new client's would. Proxies of the environment are
not used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import h11
import msgspec

from admin.bench.errors import BenchFailed
from admin.bench.timeline import Timeline

_CONNECT_TIMEOUT_S = 10.0
_READ_BYTES = 1 << 16
_ERROR_BYTES = 1 << 20
_SHOWN = 200  # characters of what a server said
_OK = 200


class RequestFailed(Exception):
    """Why one request failed; it becomes part of the figures, not the end of the benchmark."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_CHUNK = msgspec.json.Decoder(_Chunk)


def full_length(
    messages: Sequence[Mapping[str, str]], tokens: int, temperature: float = 0.0
) -> dict[str, Any]:
    """The body of a streamed request whose reply has exactly ``tokens`` tokens."""
    return {
        "messages": messages,
        "max_tokens": tokens,
        "min_tokens": tokens,
        "ignore_eos": True,
        "temperature": temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


class HttpClient:
    """Talks to ``url``, e.g. ``http://127.0.0.1:8000/v1``; ``timeout_s`` bounds each request.

    Raises:
        BenchFailed: ``url`` is no http or https address.
    """

    def __init__(self, url: str, *, api_key: str | None = None, timeout_s: float = 600.0) -> None:
        self.url = url.rstrip("/")
        self._parts = urlsplit(self.url)
        if self._parts.scheme not in {"http", "https"} or not self._parts.hostname:
            raise BenchFailed(
                f"{url!r} is no address of a server; write it like http://127.0.0.1:8000/v1."
            )
        self._timeout_s = timeout_s
        self._headers = [("host", self._parts.netloc.rpartition("@")[2]), ("accept", "*/*")]
        self._headers += [("user-agent", "lccc-admin-bench"), ("connection", "close")]
        if api_key:
            self._headers.append(("authorization", f"Bearer {api_key}"))

    async def models(self) -> list[str]:
        """The names of what is served.

        Raises:
            BenchFailed: nothing answers, or not as OpenAI's API does.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._exchange("GET", "/models") as body:
                answer = b"".join([piece async for piece in body])
            return [model.id for model in msgspec.json.decode(answer, type=_Models).data]
        except (RequestFailed, TimeoutError, msgspec.MsgspecError) as error:
            raise BenchFailed(f"{self.url}/models did not list its models: {error}.") from error

    async def chat(self, model: str, body: Mapping[str, Any]) -> Timeline:
        """Send ``body`` to ``/chat/completions`` and follow the stream; never raises."""
        content = msgspec.json.encode({"model": model, **body})
        reply = _Reply(model)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._exchange("POST", "/chat/completions", content) as pieces,
                aclosing(events(pieces)) as found,
            ):
                async for event in found:
                    reply.take(event)
            return reply.timeline()
        except TimeoutError:
            return reply.timeline(f"no end after {self._timeout_s:g} s")
        except RequestFailed as error:
            return reply.timeline(str(error))

    @asynccontextmanager
    async def _exchange(
        self, method: str, path: str, content: bytes = b""
    ) -> AsyncIterator[AsyncGenerator[bytes]]:
        """One request; the pieces of the response's body."""
        reader, writer = await self._connect()
        try:
            connection = h11.Connection(h11.CLIENT)
            headers = list(self._headers)
            if content:
                headers.append(("content-type", "application/json"))
                headers.append(("content-length", str(len(content))))
            target = self._parts.path + path
            request = connection.send(h11.Request(method=method, target=target, headers=headers))
            sent = [request, connection.send(h11.Data(data=content)) if content else b""]
            writer.write(b"".join(each for each in sent if each))
            connection.send(h11.EndOfMessage())
            async with aclosing(_body(connection, reader)) as pieces:
                yield pieces
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        is_secure = self._parts.scheme == "https"
        port = self._parts.port or (443 if is_secure else 80)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                return await asyncio.open_connection(
                    self._parts.hostname, port, ssl=is_secure or None
                )
        except TimeoutError as error:
            raise RequestFailed(f"no connection within {_CONNECT_TIMEOUT_S:g} s") from error
        except OSError as error:
            raise RequestFailed(f"no connection: {error.strerror or error}") from error


async def _body(connection: h11.Connection, reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    """The pieces of a response with status 200.

    Raises:
        RequestFailed: another status, or the connection broke.
    """
    error: h11.Response | None = None
    said = b""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_READ_BYTES))
            elif isinstance(event, h11.Response):
                error = event if event.status_code != _OK else None
            elif isinstance(event, h11.Data) and error is None:
                yield bytes(event.data)
            elif isinstance(event, h11.Data):
                said = (said + bytes(event.data))[:_ERROR_BYTES]
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise RequestFailed("the server closed the connection without an answer")
    except (OSError, h11.RemoteProtocolError) as broken:
        raise RequestFailed(f"the connection broke: {broken}") from broken
    if error is not None:
        raise RequestFailed(f"status {error.status_code}: {_message(said)}")


def _message(said: bytes) -> str:
    """What a server says about an error, in OpenAI's shape or another."""
    with suppress(msgspec.MsgspecError, KeyError, TypeError):
        return str(msgspec.json.decode(said)["error"]["message"])[:_SHOWN]
    return said.decode(errors="replace").strip()[:_SHOWN] or "no reason given"


async def events(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The data of each server-sent event up to ``[DONE]``; comments and field names are dropped."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            yield data


class _Reply:
    """One reply while it arrives; the clock runs from construction."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._text: list[str] = []
        self._times: list[float] = []
        self._usage: _Usage | None = None
        self._is_finished = False
        self._sent_s = perf_counter()

    def take(self, event: bytes) -> None:
        """Note one event.

        Raises:
            RequestFailed: it is an error, or not what the API says.
        """
        now_s = perf_counter()
        try:
            chunk = _CHUNK.decode(event)
        except msgspec.MsgspecError as error:
            shown = event[:_SHOWN].decode(errors="replace")
            raise RequestFailed(f"an event is no chunk of a reply ({error}): {shown}") from error
        if chunk.error is not None:
            told = chunk.error.get("message") if isinstance(chunk.error, dict) else chunk.error
            raise RequestFailed(f"the reply broke off: {str(told)[:_SHOWN]}")
        for choice in chunk.choices[:1]:
            delta = choice.delta or _Delta()
            if text := delta.content or delta.reasoning_content:
                self._times.append(now_s)
                self._text.append(text)
            self._is_finished |= choice.finish_reason is not None
        self._usage = chunk.usage or self._usage

    def timeline(self, failure: str | None = None) -> Timeline:
        """What happened; a reply that is not whole is a failure."""
        if failure is None and not self._is_finished:
            failure = "the reply broke off without a finish reason"
        if failure is None and not self._times:
            failure = "the reply has no text"
        usage = self._usage or _Usage()
        details = usage.prompt_tokens_details or _Details()
        return Timeline(
            model=self._model,
            sent_s=self._sent_s,
            text_s=tuple(self._times),
            text="".join(self._text),
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=details.cached_tokens or 0,
            output_tokens=usage.completion_tokens or len(self._times),
            counted="usage" if usage.completion_tokens else "chunks",
            failure=failure,
        )
