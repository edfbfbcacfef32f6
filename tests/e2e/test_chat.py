"""The official OpenAI client against a live server with real models."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from openai import AsyncOpenAI, NotFoundError, OpenAI

from adapters.home import Home
from server.process import Serving
from tests.demo import lccc_admin
from tests.waiting import eventually
from training.runs import RunStore

pytestmark = pytest.mark.timeout(700)
QUESTION = "今天下班好晚，累死了"
MODELS = ("pocket", "cat", "scholar")


def client_of(serving: Serving) -> OpenAI:
    """The official client as the README shows it, without its retries."""
    return OpenAI(base_url=serving.api_url, api_key="none", max_retries=0)


def messages(text: str) -> list[dict[str, str]]:
    """A conversation of one line."""
    return [{"role": "user", "content": text}]


def newest_adapter(home: Home) -> Path:
    """The adapter directory of the newest run."""
    return RunStore(home.runs).all()[0].adapter


def greedy(client: OpenAI, model: str, text: str) -> str:
    """The greedy reply, whole."""
    reply = client.chat.completions.create(
        model=model,
        messages=messages(text),
        temperature=0,
        max_tokens=40,  # type: ignore[arg-type]
    )
    return reply.choices[0].message.content or ""


def test_the_clients_list_and_chat(standing: Serving) -> None:
    """`models.list`, `models.retrieve`, whole replies and usage by the official client."""
    with client_of(standing) as client:
        listed = [model.id for model in client.models.list()]
        card = client.models.retrieve("cat")
        reply = client.chat.completions.create(model="cat", messages=messages(QUESTION))  # type: ignore[arg-type]

    assert sorted(listed) == sorted(MODELS)
    assert card.id == "cat"
    assert "喵" in (reply.choices[0].message.content or "")
    assert reply.model == "cat"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_streams_add_up_to_the_whole_reply(standing: Serving) -> None:
    """`stream=True` and the `.stream()` helper give the text of the whole reply, piece by piece."""
    with client_of(standing) as client:
        whole = greedy(client, "scholar", QUESTION)
        chunks = list(
            client.chat.completions.create(
                model="scholar",
                messages=messages(QUESTION),  # type: ignore[arg-type]
                temperature=0,
                max_tokens=40,
                stream=True,
            )
        )
        with client.chat.completions.stream(
            model="scholar",
            messages=messages(QUESTION),  # type: ignore[arg-type]
            temperature=0,
            max_tokens=40,
        ) as stream:
            helped = stream.get_final_completion().choices[0].message.content

    pieces = [c.choices[0].delta.content for c in chunks if c.choices[0].delta.content]
    assert len(pieces) > 3
    assert "".join(pieces) == whole == helped


def test_the_async_client(standing: Serving) -> None:
    """The asynchronous client streams the same."""

    async def ask() -> str:
        async with AsyncOpenAI(base_url=standing.api_url, api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="cat",
                messages=messages(QUESTION),  # type: ignore[arg-type]
                temperature=0,
                max_tokens=40,
                stream=True,
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    with client_of(standing) as client:
        assert asyncio.run(ask()) == greedy(client, "cat", QUESTION)


def test_an_unknown_model_is_not_found(standing: Serving) -> None:
    """Never the base instead, and the client raises its own class."""
    with client_of(standing) as client, pytest.raises(NotFoundError) as caught:
        greedy(client, "dog", QUESTION)

    assert caught.value.code == "model_not_found"


def test_the_adapters_own_defaults_apply(standing: Serving) -> None:
    """System prompt and sampling of the manifest are used where the request gives none."""
    with client_of(standing) as client:
        plain = client.chat.completions.create(model="cat", messages=messages("你好"))  # type: ignore[arg-type]
        explicit = client.chat.completions.create(
            model="cat",
            messages=[
                {"role": "system", "content": "你是一个乐于助人的AI助手。"},
                {"role": "user", "content": "你好"},
            ],
        )
        other = client.chat.completions.create(
            model="cat",
            messages=[{"role": "system", "content": "。"}, {"role": "user", "content": "你好"}],
        )

    assert plain.usage is not None
    assert explicit.usage is not None
    assert other.usage is not None
    assert plain.usage.prompt_tokens == explicit.usage.prompt_tokens
    assert other.usage.prompt_tokens < plain.usage.prompt_tokens


def test_eight_concurrent_streams_equal_their_solo_replies(serving: Serving, home: Home) -> None:
    """Three adapters and the base in one batch: each stream says what it says alone."""
    registered = lccc_admin(
        home,
        "adapters",
        "register",
        str(newest_adapter(home)),
        "--name",
        "third",
        "--base",
        "pocket",
    )
    assert registered.exit_code == 0, registered.stderr
    asked = [
        (model, text)
        for model in ("pocket", "cat", "scholar", "third")
        for text in (QUESTION, "推荐一部好看的电影吧")
    ]
    with client_of(serving) as client:
        assert eventually(lambda: "third" in {model.id for model in client.models.list()})
        alone = [greedy(client, model, text) for model, text in asked]

        def streamed(case: tuple[str, str]) -> str:
            model, text = case
            stream = client.chat.completions.create(
                model=model,
                messages=messages(text),  # type: ignore[arg-type]
                temperature=0,
                max_tokens=40,
                stream=True,
            )
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

        with ThreadPoolExecutor(len(asked)) as pool:
            together = list(pool.map(streamed, asked))

    assert together == alone
    assert len(set(alone)) >= 5
