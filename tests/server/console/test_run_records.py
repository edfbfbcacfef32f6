"""``/admin/runs`` on records that no training made: what is shown of them, in how few points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from server.app import create_app
from server.console.run_records import log_text
from server.settings import ServerSettings
from tests.fakes import ScriptedEngine
from tests.records import make_run, measure
from training.runs import EventLog
from training.runs.event import Sample


@pytest.fixture
def admin(settings: ServerSettings, engine: ScriptedEngine) -> Iterator[TestClient[Any]]:
    """A client with the server's token."""
    app = create_app(settings, engine=engine, token="token")
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        client.headers["authorization"] = "Bearer token"
        yield client


def test_runs_are_listed_with_how_they_stand(
    admin: TestClient[Any], settings: ServerSettings
) -> None:
    """Also one whose process died, which is no longer running."""
    make_run(settings.home.runs, started=1.0, adapter="old")
    make_run(settings.home.runs, state="running", started=2.0)

    old, new = reversed(admin.get("/admin/runs").json()["data"])

    assert (old["adapter"], old["state"], old["step"]) == ("old", "stopped", 150)
    assert new["state"] == "interrupted"


def test_one_run_is_shown_with_what_it_has_made(
    admin: TestClient[Any], settings: ServerSettings
) -> None:
    """Checkpoints newest first, samples, warnings, and what its recipe changes."""
    recipe = '[lora]\nr = 8\n[prompt]\nroles = "last-assistant"\n'
    run = make_run(settings.home.runs, recipe, best_step=20)
    for step in (20, 40):
        (run.checkpoints / f"step-{step}").mkdir()
        (run.checkpoints / f"step-{step}" / "lora.safetensors").write_bytes(b"12345")
    log = EventLog(run.events_path)
    log.append("samples", 20, replies=(Sample("在吗", "在呀", "在"),))
    log.append("warning", 21, message="<script>alert(1)</script>")
    log.close()

    found = admin.get(f"/admin/runs/{run.id}").json()

    assert found["changed"] == ["lora.r"]
    assert [(one["step"], one["size_bytes"], one["is_best"]) for one in found["checkpoints"]] == [
        (40, 5, False),
        (20, 5, True),
    ]
    assert found["samples"] == [{"step": 20, "prompt": "在吗", "reply": "在呀", "expected": "在"}]
    assert found["warnings"][0]["message"] == "<script>alert(1)</script>"
    assert found["has_adapter"] is False


def test_a_hundred_thousand_steps_become_few_points(
    admin: TestClient[Any], settings: ServerSettings
) -> None:
    """No extreme is lost, and a part of the steps has as many points for itself."""
    run = make_run(settings.home.runs)
    measure(run, steps=100_000)
    path = f"/admin/runs/{run.id}/metrics"

    whole = admin.get(path, params={"points": 500}).json()
    part = admin.get(path, params={"points": 500, "first_step": 1001, "last_step": 1400}).json()

    losses = whole["curves"]["loss"]
    assert 250 < len(losses) <= 500
    assert (losses[0][0], losses[-1][1]) == (1, 100_000)
    assert min(point[2] for point in losses) == 4.0 - 1000.0
    assert whole["seq"] == 100_001
    assert [point[0] for point in part["curves"]["loss"]] == list(range(1000, 1402))


def test_what_is_new_is_told_alone(admin: TestClient[Any], settings: ServerSettings) -> None:
    """Since an event's number; a resumption says from where on the old no longer counts."""
    run = make_run(settings.home.runs)
    measure(run, steps=10)
    path = f"/admin/runs/{run.id}/metrics"
    seen = admin.get(path).json()
    log = EventLog(run.events_path)
    log.append("status", 8, state="running", message="resumed at step 8")
    log.append("train", 9, loss=1.5)
    log.close()

    new = admin.get(path, params={"after": seen["seq"]}).json()
    none = admin.get(path, params={"after": new["seq"]}).json()
    again = admin.get(path).json()

    assert (new["dropped_after"], new["curves"]["loss"]) == (8, [[9, 9, 1.5, 1.5, 1.5]])
    assert (none["dropped_after"], none["curves"]["loss"], none["seq"]) == (None, [], new["seq"])
    assert [point[0] for point in again["curves"]["loss"]] == list(range(1, 10))
    assert again["curves"]["loss"][-1][4] == 1.5


def test_the_log_comes_in_whole_lines(admin: TestClient[Any], settings: ServerSettings) -> None:
    """From the beginning, from where one left off, or the end of it."""
    run = make_run(settings.home.runs)
    run.log_path.write_text("一\n二\n三", encoding="utf-8")
    path = f"/admin/runs/{run.id}/log"

    assert admin.get(path).json() == {"text": "一\n二\n", "next": 8, "size": 11}
    assert admin.get(path, params={"after": 4}).json()["text"] == "二\n"
    assert admin.get(path, params={"after": -9}).json()["text"] == "二\n"
    assert log_text(run.log_path, 0, limit=5).text == "一\n"


def test_only_a_running_one_is_stopped(admin: TestClient[Any], settings: ServerSettings) -> None:
    """It is asked by its directory, as `runs stop` asks; others are 409."""
    run = make_run(settings.home.runs, state="running")
    with run.held():
        answer = admin.post(f"/admin/runs/{run.id}/stop")
    assert (answer.status_code, answer.json()["is_asked_to_stop"]) == (200, True)
    assert run.is_asked_to_stop()

    ended = make_run(settings.home.runs, state="completed")
    for verb in ("stop", "resume"):
        refused = admin.post(f"/admin/runs/{ended.id}/{verb}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "wrong_state")


@pytest.mark.parametrize("name", ["none", "..", "%2e%2e", ".new-1"])
def test_an_unknown_run_is_404(admin: TestClient[Any], name: str) -> None:
    """Whatever its name tries."""
    for path in ("", "/metrics", "/log"):
        assert admin.get(f"/admin/runs/{name}{path}").status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"adapter": "a"}, "dataset"),
        ({"dataset": "none", "adapter": "a"}, "dataset"),
        ({"dataset": "d", "adapter": "a", "recipe": "/etc/passwd"}, "recipe"),
        ({"dataset": "d", "adapter": "a", "base": "org/elsewhere"}, "base"),
        ({"dataset": "d", "adapter": "a", "overrides": {"lora.r": 8}}, "overrides[...]"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_field(
    admin: TestClient[Any], settings: ServerSettings, body: dict[str, Any], param: str
) -> None:
    """No path is a recipe, nothing is downloaded, and no process is started."""
    (settings.home.datasets / "d").mkdir(parents=True)
    (settings.home.datasets / "d" / "manifest.json").touch()
    for path in ("/admin/runs", "/admin/recipes/plan"):
        answer = admin.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not settings.home.jobs.exists()


def test_recipes_say_what_can_be_set(admin: TestClient[Any]) -> None:
    """Every field with its value, bounds and choices; the default recipe first."""
    found = admin.get("/admin/recipes").json()

    first, *others = found["data"]
    assert (first["is_default"], "pocket" in found["bases"]) == (True, True)
    assert "pocket" in [one["name"] for one in others]
    fields = {f"{one['section']}.{one['name']}": one for one in first["fields"]}
    assert fields["lora.r"] | {"value": 16, "minimum": 1, "kind": "integer"} == fields["lora.r"]
    assert "dora" in fields["lora.kind"]["choices"]
    checkpointing = fields["training.gradient_checkpointing"]
    assert (checkpointing["kind"], checkpointing["value"]) == ("text", "auto")
    assert checkpointing["choices"] == ["auto", "true", "false"]
    shares = fields["training.share_prefix"]
    assert (shares["kind"], shares["choices"]) == ("boolean", None)
