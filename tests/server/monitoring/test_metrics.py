"""``/metrics`` and ``/version``."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
from litestar.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families

from server.engine.errors import QueueFull
from server.monitoring.metrics import Gaps
from tests.conftest import LiveServer
from tests.fakes import Script, ScriptedEngine
from tests.server.asking import ask
from tests.waiting import eventually

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(client: TestClient[Any]) -> Samples:
    """All samples by name and labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def test_requests_and_tokens_are_counted_by_model(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Each adapter has its own figures; a reply counts once, however it was asked for."""
    engine._scripts = [Script(pieces=("a", "b", "c"), cached_tokens=4)]
    for model, fields in (("poet", {}), ("poet", {"stream": True}), ("base", {"n": 2})):
        assert ask(client, model=model, **fields).status_code == 200

    found = samples(client)

    for model, replies in (("poet", 2), ("base", 2)):
        assert of(found, "lccc_requests_total", model=model, outcome="stop") == replies
        assert of(found, "lccc_prompt_tokens_total", model=model) == 6 * replies
        assert of(found, "lccc_prompt_cached_tokens_total", model=model) == 4 * replies
        assert of(found, "lccc_reply_tokens_total", model=model) == 3 * replies
        assert of(found, "lccc_time_to_first_token_seconds_count", model=model) == replies
        assert of(found, "lccc_inter_token_latency_seconds_count", model=model) == 2 * replies
        assert of(found, "lccc_request_duration_seconds_count", model=model) == replies


def test_gaps_are_counted_below_their_bounds() -> None:
    """As Prometheus counts: a bound belongs to what is below it, each counts those below it too."""
    gaps = Gaps()
    for gap_s in (0.0, 0.001, 0.002, 0.05, 9.0):
        gaps.of("poet").observe(gap_s)

    (family,) = gaps.collect()

    found = {each.labels.get("le", each.name): each.value for each in family.samples}
    name = "lccc_inter_token_latency_seconds"
    assert (found["0.001"], found["0.0025"], found["0.05"]) == (2, 3, 4)
    assert (found["2.5"], found["+Inf"], found[f"{name}_count"]) == (4, 5, 5)
    assert found[f"{name}_sum"] == pytest.approx(9.053)


def test_a_prompt_without_a_reply_counts(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """Its tokens do, and its time; there is no first token."""
    engine._scripts = [Script(pieces=(), reason="length")]
    body = {"model": "poet", "prompt": "ab", "max_tokens": 0, "echo": True, "logprobs": 0}
    assert client.post("/v1/completions", json=body).status_code == 200

    found = samples(client)

    assert of(found, "lccc_requests_total", model="poet", outcome="length") == 1
    assert of(found, "lccc_prompt_tokens_total", model="poet") == 2
    assert of(found, "lccc_request_duration_seconds_count", model="poet") == 1
    assert of(found, "lccc_time_to_first_token_seconds_count", model="poet") is None


def test_refusals_and_failures_are_counted_by_their_name(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """And nothing under a name that a client made up."""
    engine._scripts = [Script(refusal=QueueFull(1, 1.0, 1)), Script(fail_at=0)]
    assert ask(client).status_code == 429
    assert ask(client).status_code == 500
    assert ask(client, model="made-up").status_code == 404

    found = samples(client)

    assert of(found, "lccc_requests_total", model="poet", outcome="queue_full") == 1
    assert of(found, "lccc_requests_total", model="poet", outcome="failed") == 1
    assert not any("made-up" in dict(labels).values() for _, labels in found)


def test_a_client_that_leaves_counts_as_an_abort(live: LiveServer) -> None:
    """With the tokens that it had read."""
    import httpx

    with live(Script(pieces=("a", "b"), hold_at=1)) as server:
        url = server.url.removesuffix("/v1")
        body = {"model": "poet", "messages": [{"role": "user", "content": "a"}], "stream": True}
        with httpx.stream("POST", f"{server.url}/chat/completions", json=body) as response:
            lines = response.iter_lines()  # without its reader the stream would be closed
            assert any('"content":"a"' in line for line in lines)
        wanted = 'lccc_requests_total{model="poet",outcome="abort"} 1.0'
        assert eventually(lambda: wanted in httpx.get(f"{url}/metrics").text)
        assert 'lccc_reply_tokens_total{model="poet"} 1.0' in httpx.get(f"{url}/metrics").text


def test_a_model_that_is_forgotten_leaves_no_line(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Of any figure, whatever became of its requests; the others keep theirs."""
    engine._scripts = [Script(pieces=("a", "b")), Script(refusal=QueueFull(1, 1.0, 1)), Script()]
    for model in ("poet", "poet", "base"):
        ask(client, model=model)

    client.app.state.metrics.models._forget("poet")

    left = {labels for name, labels in samples(client) if name != "lccc_adapter_resident"}
    assert not any("poet" in dict(labels).values() for labels in left)
    assert any("base" in dict(labels).values() for labels in left)


def test_gauges_tell_what_is_there_now(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """Queue, cache and which adapters are in memory; nothing once the engine has stopped."""
    found = samples(client)
    engine.is_ready = False
    after = samples(client)

    assert of(found, "lccc_requests_running") == 0
    assert of(found, "lccc_kv_cache_blocks", state="free") == 0
    assert of(found, "lccc_adapter_resident", model="poet") == 1
    assert of(found, "lccc_adapter_resident", model="base") is None
    info = {"device": "cpu", "name": "a scripted processor", "weights": "fp32"}
    assert found["lccc_engine_info", frozenset(info.items())] == 1
    assert (of(found, "process_resident_memory_bytes") or 0) > 1e6
    used, free = (of(found, "lccc_machine_memory_bytes", state=each) for each in ("used", "free"))
    assert used
    assert free
    assert of(after, "lccc_requests_running") is None


def test_the_version_is_the_packages(client: TestClient[Any]) -> None:
    """As installed."""
    assert client.get("/version").json() == {"version": version("lccc-chat")}
