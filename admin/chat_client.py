"""A small client of OpenAI's chat API, as far as a conversation in a terminal needs it."""

from __future__ import annotations

import ipaddress
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Self

import httpx
import msgspec

from adapters.errors import LcccError

Message = dict[str, str]

_CONNECT_TIMEOUT_S = 5.0


class ChatFailed(LcccError):
    """The server refused, or the reply broke off; the message is the server's."""


class NoServer(ChatFailed):
    """Nothing answers at the address."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"No server answers at {url}. Start one with `lccc-admin serve`, "
            "or name another with --url."
        )


class ChatClient:
    """Talks to the server at ``url``, e.g. ``http://127.0.0.1:8000/v1``, with a key if it has one.

    An address without a path means its ``/v1``.
    All methods raise :class:`ChatFailed` with a sentence for the user.
    """

    def __init__(self, url: str, *, api_key: str) -> None:
        self._url = url.rstrip("/")
        if httpx.URL(self._url).path in ("", "/"):
            self._url += "/v1"
        address = httpx.URL(self._url)
        self._http = httpx.Client(
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
            # A proxy of the environment cannot reach this machine's own loopback.
            trust_env=not _is_loopback(address.host),
            # Without TLS there is nobody to verify, and all authorities are not read for nothing.
            verify=address.scheme != "http",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def models(self) -> list[str]:
        """Names of what is served."""
        try:
            response = self._http.get(f"{self._url}/models")
            _raise_for(response)
            return [model["id"] for model in response.json()["data"]]
        except httpx.ConnectError as error:
            raise NoServer(self._url) from error
        except httpx.HTTPError as error:
            raise ChatFailed(f"The connection to {self._url} failed: {error}.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ChatFailed(f"{self._url} does not speak OpenAI's API.") from error

    def reply(self, model: str, messages: Sequence[Message]) -> Generator[str]:
        """The pieces of the reply as they come. Closing the iterator stops the server's work."""
        body = {"model": model, "messages": list(messages), "stream": True}
        with closing(self.stream(body)) as events:
            yield from _texts(events)

    def stream(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """The chunks that the server sends for ``body``, which asks for a streamed reply."""
        try:
            with self._http.stream("POST", f"{self._url}/chat/completions", json=body) as response:
                if response.is_error:
                    response.read()
                    _raise_for(response)
                for event in _events(response.iter_bytes()):
                    if error := event.get("error"):
                        raise ChatFailed(str(error.get("message", error)))
                    yield event
        except httpx.ConnectError as error:
            raise NoServer(self._url) from error
        except httpx.HTTPError as error:
            raise ChatFailed(f"The connection to {self._url} failed: {error}.") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _raise_for(response: httpx.Response) -> None:
    if not response.is_error:
        return
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"The server answered with status {response.status_code}."
    if response.status_code == httpx.codes.UNAUTHORIZED:
        message += " Give yours with --api-key, or in LCCC_API_KEY."
    raise ChatFailed(message)


def _events(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON of each event up to ``[DONE]``; comments (pings) are skipped."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line.removeprefix(b"data:").strip()
            if data == b"[DONE]":
                return
            yield msgspec.json.decode(data)
    raise ChatFailed("The reply broke off: the server closed the connection.")


def _texts(events: Iterable[dict[str, Any]]) -> Iterator[str]:
    for event in events:
        for choice in event["choices"]:
            if text := choice["delta"].get("content"):
                yield text
