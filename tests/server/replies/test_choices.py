"""``n``: several replies to one request, whole and streamed."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from litestar.testing import TestClient

from server.engine.errors import AdapterUnavailable, QueueFull
from server.engine.types import GenerationRequest
from server.replies.choices import admit, seed_of
from tests.conftest import LiveServer
from tests.fakes import Script, ScriptedEngine, card
from tests.server.asking import USER, ask, frames
from tests.waiting import eventually


def test_each_choice_has_its_index_text_and_end(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """In order, whichever ends first; the prompt counts once, and cached is what none computed."""
    engine._scripts = [
        Script(pieces=("慢",), delay_s=0.05, cached_tokens=1),
        Script(pieces=("快", "了"), reason="length", cached_tokens=5),
    ]

    completion = ask(client, n=2).json()

    assert [
        (choice["index"], choice["message"]["content"], choice["finish_reason"])
        for choice in completion["choices"]
    ] == [(0, "慢", "stop"), (1, "快了", "length")]
    assert completion["usage"] == {
        "prompt_tokens": 6,
        "completion_tokens": 3,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert {bytes(request.prompt) for request in engine.requests} == {"你好".encode()}
    assert [request.is_repeat for request in engine.requests] == [False, True]
    assert len({request.id for request in engine.requests}) == 2
    assert engine.requests[0].id == completion["id"]


def test_choices_are_streamed_as_they_come(live: LiveServer) -> None:
    """Each has its role, text and finish; usage and ``[DONE]`` come after the last of them."""
    scripts = [Script(pieces=("a", "b", "c"), delay_s=0.05), Script(pieces=("x",))]
    with live(*scripts) as server:
        sent = frames(server, n=2, stream_options={"include_usage": True})

    *chunks, last = sent
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4
    assert len({chunk["id"] for chunk in sent}) == 1
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["index"] for choice in choices][:3] == [1, 1, 1], "the quick one is done first"
    for index, text in enumerate(["abc", "x"]):
        own = [choice for choice in choices if choice["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(choice["delta"].get("content", "") for choice in own) == text
        assert [choice["finish_reason"] for choice in own[-2:]] == [None, "stop"]


def test_the_official_client_reads_choices(live: LiveServer) -> None:
    """Whole, and as the stream helper puts them together."""
    scripts = [Script(pieces=(str(number), "号")) for number in range(3)]
    with (
        live(*scripts, *scripts) as server,
        openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
    ):
        whole = client.chat.completions.create(model="poet", messages=[USER], n=3)
        with client.chat.completions.stream(model="poet", messages=[USER], n=3) as stream:
            streamed = stream.get_final_completion()

    texts = ["0号", "1号", "2号"]
    assert [choice.message.content for choice in whole.choices] == texts
    assert [choice.message.content for choice in streamed.choices] == texts


def test_one_that_breaks_off_ends_the_others(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """The answer is an error, and nothing computes for nobody."""
    engine._scripts = [Script(hold_at=0), Script(fail_at=0)]

    response = ask(client, n=2)

    assert (response.status_code, response.json()["error"]["code"]) == (500, "generation_failed")
    assert not engine.running


def test_one_that_breaks_off_in_a_stream_is_an_error_frame(live: LiveServer) -> None:
    """After it nothing but ``[DONE]`` is sent, and the other reply is aborted."""
    with live(Script(pieces=("a", "b"), hold_at=1), Script(fail_at=0)) as server:
        sent = frames(server, n=2)
        assert eventually(lambda: not server.engine.running)

    assert sent[-1]["error"]["code"] == "generation_failed"


def test_if_one_is_refused_none_runs(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """The client gets the refusal; what was admitted before is given back."""
    engine._scripts = [Script(hold_at=0), Script(refusal=QueueFull(3, 2.0, 10))]

    response = ask(client, n=2)

    assert response.status_code == 429
    assert response.headers["retry-after"] == "2"
    assert engine.aborted == [engine.requests[0].id]


def test_more_than_can_ever_run_is_the_clients_mistake(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """A request may not keep all others out, nor ask again later for what will never do."""
    response = ask(client, n=engine.capacity + 1)

    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "n")
    assert str(engine.capacity) in error["message"]
    assert not engine.requests


def test_a_seed_gives_the_same_choices_and_different_ones_within_a_request(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """The first choice is that of a request for one; more of them do not change the others."""
    for n in (1, 3, 2):
        ask(client, n=n, seed=-7)
    seeds = [request.sampling.seed for request in engine.requests]

    assert seeds[0] == -7
    assert seeds[1:4] == [*seeds[4:], seeds[3]]
    assert len(set(seeds[1:4])) == 3


@pytest.mark.parametrize("seed", [-(2**63), 0, 2**63 - 1])
def test_seeds_of_choices_stay_in_bounds(seed: int) -> None:
    """Also for the least and the largest that a request may have."""
    assert all(-(2**63) <= (seed_of(seed, index) or 0) < 2**63 for index in range(200))
    assert seed_of(None, 3) is None


def test_choices_are_of_one_version_of_their_model() -> None:
    """An adapter that is replaced in between makes them begin again, but not for ever."""
    asyncio.run(_replaced_in_between())


async def _replaced_in_between() -> None:
    engine = ScriptedEngine(cards=[card("poet", "base", digest="old")])
    await engine.start()
    left = 1

    async def submit(request: GenerationRequest) -> Any:
        nonlocal left
        generation = await ScriptedEngine.submit(engine, request)
        if left:
            left -= 1
            engine.cards = [card("poet", "base", digest=f"new-{left}")]
        return generation

    engine.submit = submit  # type: ignore[method-assign]
    asked = [GenerationRequest(id=str(number), model="poet", prompt=(1,)) for number in range(3)]

    admitted = await admit(engine, asked)
    assert {generation.digest for generation in admitted} == {"new-0"}
    assert len(engine.aborted) == 3
    left = 100
    with pytest.raises(AdapterUnavailable, match="again and again"):
        await admit(engine, asked)
