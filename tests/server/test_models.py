"""``/v1/models`` and the health endpoints."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
from litestar.testing import TestClient

from adapters.manifest import SamplingDefaults
from server.app import create_app
from server.settings import ServerSettings
from tests.fakes import ScriptedEngine, card
from tests.server.asking import USER


def test_the_list_shows_base_and_adapters_whole(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """OpenAI's keys, vLLM's ``root`` and ``parent``, and what our own tools need."""
    engine.cards = [
        card("Qwen/Qwen3-0.6B", digest="aa", created=7),
        card(
            "poet",
            "Qwen/Qwen3-0.6B",
            digest="bb",
            created=9,
            state="broken",
            reason="it lacks a tensor",
            rank=16,
            system_prompt="你是诗人。",
            sampling=SamplingDefaults(temperature=0.3),
        ),
        card("lost", "Qwen/Qwen3-0.6B", digest="", state="broken", reason="its record is damaged"),
    ]
    neutral = dict.fromkeys(("max_tokens", "temperature", "top_p", "top_k", "repetition_penalty"))

    listed = client.get("/v1/models").json()
    lost = listed["data"].pop()

    assert (lost["root"], lost["digest"]) == ("lost", "")
    assert listed == {
        "object": "list",
        "data": [
            {
                "id": "Qwen/Qwen3-0.6B",
                "object": "model",
                "created": 7,
                "owned_by": "lccc-chat",
                "root": "Qwen/Qwen3-0.6B",
                "parent": None,
                "max_model_len": 4096,
                "digest": "aa",
                "rank": None,
                "state": "ready",
                "reason": None,
                "sampling": neutral,
                "system_prompt": None,
            },
            {
                "id": "poet",
                "object": "model",
                "created": 9,
                "owned_by": "lccc-chat",
                "root": "sha256:bb",
                "parent": "Qwen/Qwen3-0.6B",
                "max_model_len": 4096,
                "digest": "bb",
                "rank": 16,
                "state": "broken",
                "reason": "it lacks a tensor",
                "sampling": neutral | {"temperature": 0.3},
                "system_prompt": "你是诗人。",
            },
        ],
    }


def test_one_model_by_name(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """Names may contain a slash, plain or percent-encoded."""
    engine.cards = [card("Qwen/Qwen3-0.6B"), card("poet", "Qwen/Qwen3-0.6B")]

    for path in ("Qwen/Qwen3-0.6B", "Qwen%2FQwen3-0.6B"):
        assert client.get(f"/v1/models/{path}").json()["id"] == "Qwen/Qwen3-0.6B"
    assert client.get("/v1/models/poet").json()["parent"] == "Qwen/Qwen3-0.6B"


def test_an_unknown_model_is_404(client: TestClient[Any]) -> None:
    """Never the base instead, never a download."""
    response = client.get("/v1/models/gpt-4")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "gpt-4" in response.json()["error"]["message"]


def test_a_base_is_sampled_as_its_files_say(settings: ServerSettings, tiny: Path) -> None:
    """Whatever a request leaves out; the card shows it."""
    base = settings.home.bases / "greedy"
    shutil.copytree(tiny, base)
    (base / "generation_config.json").write_text('{"do_sample": false, "repetition_penalty": 1.1}')
    app = create_app(msgspec.structs.replace(settings, base="greedy", device="cpu"))
    body = {"model": "greedy", "messages": [USER], "max_tokens": 12}
    with TestClient(app, base_url="http://127.0.0.1") as client:
        (card,) = client.get("/v1/models").json()["data"]
        said = [
            client.post("/v1/chat/completions", json=body | more).json()["choices"]
            for more in ({}, {}, {"temperature": 0, "repetition_penalty": 1.1})
        ]

    assert (card["root"], card["parent"], card["rank"]) == ("greedy", None, None)
    assert card["sampling"]["temperature"] == 0.0
    assert card["sampling"]["repetition_penalty"] == 1.1
    assert said[0] == said[1] == said[2]


def test_health_is_the_process_and_ready_the_engine(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """A server whose engine cannot serve is alive but not ready."""
    assert client.get("/ready").json() == {"status": "ready"}

    engine.is_ready = False

    assert client.get("/health").json() == {"status": "ok"}
    response = client.get("/ready")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "not_ready"
    assert response.headers["retry-after"] == "5"
