"""``/admin/adapters``: from a run into the registry, another name, a file, and away."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from litestar.testing import TestClient

from adapters.base import find_base
from adapters.base_evaluations import BaseEvaluations
from adapters.home import Home
from adapters.manifest import Evaluation
from adapters.registry import Registry
from admin.cli import main
from tests.records import make_run
from tests.server.conftest import RealClient
from tests.tiny import random_adapter
from tests.training.conftest import DIALOGUES
from tests.waiting import eventually
from training.data.dataset import prepare
from training.runs import Run

MEASURED = Evaluation("small", "d" * 64, "test", 9, 5, "greedy", 1, {"bleu_4_characters": 2.5})
LOADING_S = 120.0  # a process that loads torch, maybe beside other tests


@pytest.fixture
def admin(real: RealClient) -> Iterator[TestClient[Any]]:
    """A client with an admin key, of a server with the tiny base."""
    with real(admin_key="ops") as client:
        client.headers["authorization"] = "Bearer ops"
        yield client


@pytest.fixture
def run(admin: TestClient[Any]) -> Run:
    """A run that has written an adapter."""
    home: Home = admin.app.state.settings.home
    made = make_run(home.runs, state="completed")
    random_adapter(made.adapter, home.bases / "tiny")
    return made


def models(admin: TestClient[Any]) -> list[str]:
    return [model["id"] for model in admin.get("/v1/models").json()["data"]]


def test_a_runs_adapter_is_registered_renamed_and_removed(admin: TestClient[Any], run: Run) -> None:
    """Each is true of what is served when the answer comes."""
    made = admin.post("/admin/adapters", json={"name": "cat", "run": run.id})
    assert made.status_code == 200
    assert models(admin) == ["tiny", "cat"]

    renamed = admin.post("/admin/adapters/cat/rename", json={"to": "kitten"}).json()
    assert renamed == {"name": "kitten", "digest": made.json()["digest"]}
    assert models(admin) == ["tiny", "kitten"]

    assert admin.delete("/admin/adapters/kitten").status_code == 204
    assert models(admin) == ["tiny"]


def test_a_taken_name_stays_what_it_is(admin: TestClient[Any], run: Run) -> None:
    """Unless it is to be replaced; the base's own name never is."""
    admin.post("/admin/adapters", json={"name": "cat", "run": run.id})
    admin.post("/admin/adapters", json={"name": "dog", "run": run.id})

    again = admin.post("/admin/adapters", json={"name": "cat", "run": run.id})
    error = again.json()["error"]
    assert (again.status_code, error["code"], error["param"]) == (400, "adapter_exists", "name")
    assert "say replaces: true" in error["message"]
    replaced = {"name": "cat", "run": run.id, "replaces": True}
    assert admin.post("/admin/adapters", json=replaced).status_code == 200
    for to in ("dog", "tiny", "a b", "DOG"):
        refused = admin.post("/admin/adapters/cat/rename", json={"to": to})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "to")
    assert models(admin) == ["tiny", "cat", "dog"]


def test_a_refusal_names_this_endpoints_fields(admin: TestClient[Any], run: Run) -> None:
    """Not those of the endpoint that vLLM has for the same."""
    admin.post("/admin/adapters", json={"name": "cat", "run": run.id})
    (run.adapter / "adapter_config.json").write_text("{}")

    for fields, status, param in (
        ({"name": "CAT", "run": run.id}, 400, "name"),
        ({"name": "dog", "run": run.id}, 400, "run"),
        ({"name": "dog", "path": str(run.adapter)}, 400, "path"),
        ({"name": "dog", "path": "/"}, 403, "path"),
    ):
        refused = admin.post("/admin/adapters", json=fields)
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), fields
        assert not {"lora_name", "lora_path"} & set(re.findall(r"\w+", refused.text))
    unknown = admin.delete("/admin/adapters/nope")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "name")


def test_an_adapter_is_downloaded_whole(admin: TestClient[Any], run: Run) -> None:
    """PEFT's files and the manifest, as they were registered."""
    digest = admin.post("/admin/adapters", json={"name": "cat", "run": run.id}).json()["digest"]

    answer = admin.get("/admin/adapters/cat/download")

    assert answer.headers["content-disposition"] == 'attachment; filename="cat.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = {"adapter.json", "adapter_config.json", "adapter_model.safetensors"}
        assert set(archive.namelist()) == names
        assert json.loads(archive.read("adapter_config.json"))["peft_type"] == "LORA"
        weights = (run.adapter / "adapter_model.safetensors").read_bytes()
        assert archive.read("adapter_model.safetensors") == weights
        assert msgspec.json.decode(archive.read("adapter.json"))
    assert digest


def test_what_is_not_there_is_404(admin: TestClient[Any], run: Run) -> None:
    """Adapters and runs that nobody knows, and a run without an adapter."""
    empty = make_run(admin.app.state.settings.home.runs)
    for name in ("none", empty.id):
        asked = {"name": "cat", "run": name}
        assert admin.post("/admin/adapters", json=asked).status_code == 404
    assert admin.post("/admin/adapters/none/rename", json={"to": "x"}).status_code == 404
    assert admin.get("/admin/adapters/none/download").status_code == 404
    assert admin.delete("/admin/adapters/none").status_code == 404


def test_one_from_a_directory_is_registered(admin: TestClient[Any], run: Run) -> None:
    """Below a directory that is allowed; either a run or a path is given, never both."""
    by_path = admin.post("/admin/adapters", json={"name": "cat", "path": str(run.adapter)})
    elsewhere = admin.post("/admin/adapters", json={"name": "dog", "path": "/etc"})
    both = {"name": "dog", "path": str(run.adapter), "run": run.id}

    assert by_path.status_code == 200
    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (403, "path_not_allowed")
    for asked in (both, {"name": "dog"}):
        refused = admin.post("/admin/adapters", json=asked)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "run")
    assert models(admin) == ["tiny", "cat"]


def test_everything_known_of_an_adapter_is_listed(admin: TestClient[Any], run: Run) -> None:
    """Where it is from, how big it is, what was measured of it, and how often it was asked."""
    home: Home = admin.app.state.settings.home
    digest = admin.post("/admin/adapters", json={"name": "cat", "run": run.id}).json()["digest"]
    registry = Registry(home.registry)
    registry.record_evaluation(registry.get("cat"), MEASURED)
    admin.post(
        "/v1/chat/completions",
        json={"model": "cat", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
    )

    listed = admin.get("/admin/adapters").json()

    assert (listed["base"]["name"], listed["base"]["layers"]) == ("tiny", 2)
    assert listed["base"]["size_bytes"] > 0
    (cat,) = listed["data"]
    assert (cat["name"], cat["digest"], cat["base"]) == ("cat", digest, "tiny")
    assert (cat["requests"], cat["is_resident"]) == (1, True)
    assert cat["size_bytes"] >= (run.adapter / "adapter_model.safetensors").stat().st_size
    (evaluation,) = cat["evaluations"]
    assert (evaluation["dataset"], evaluation["metrics"]) == ("small", {"bleu_4_characters": 2.5})


def test_what_was_measured_of_a_base_is_lost_alone(admin: TestClient[Any]) -> None:
    """The rest is listed, with the reason."""
    home: Home = admin.app.state.settings.home
    ref = find_base("tiny", home).ref
    BaseEvaluations(home.evaluations).record(ref, MEASURED)
    assert admin.get("/admin/adapters").json()["base"]["evaluations"][0]["dataset"] == "small"
    (record,) = home.evaluations.glob("*.json")
    record.write_text("{}")

    listed = admin.get("/admin/adapters").json()

    assert listed["base"]["evaluations"] == []
    assert "Delete that file" in listed["broken"]["tiny"]


def test_adapters_are_measured_by_a_job(admin: TestClient[Any], run: Run, tmp_path: Path) -> None:
    """The figures are in the list once it has ended; then there is nothing to cancel."""
    home: Home = admin.app.state.settings.home
    admin.post("/admin/adapters", json={"name": "cat", "run": run.id})
    raw = tmp_path / "raw.json"
    raw.write_text(json.dumps({"train": DIALOGUES[:20], "test": DIALOGUES[20:]}), "utf-8")
    prepare([raw], "small", home.datasets)
    few = {"dialogues": 2, "replies": 1, "max_tokens": 2}
    asked = {"models": ["cat"], "includes_base": True, "dataset": "small", **few}

    job = admin.post("/admin/evaluations", json=asked).json()

    assert (job["kind"], job["state"]) == ("evaluate", "running")
    assert eventually(lambda: look(admin, job)["state"] != "running", LOADING_S)
    assert look(admin, job)["error"] is None
    told = admin.app.state.jobs.get(job["id"]).progress()
    assert (told.stage, told.subject, told.done, told.share) == ("replies", "cat", told.total, 1.0)
    listed = admin.get("/admin/adapters").json()
    ((measured,), (of_base,)) = (one["evaluations"] for one in (*listed["data"], listed["base"]))
    for one in (measured, of_base):
        assert (one["split"], one["replies"]) == ("test", 1)
    perplexities = {one["metrics"]["perplexity_per_character"] for one in (measured, of_base)}
    assert min(perplexities) > 1
    assert len(perplexities) == 2
    ended = admin.post(f"/admin/jobs/{job['id']}/cancel")
    assert (ended.status_code, ended.json()["error"]["code"]) == (409, "wrong_state")


def look(admin: TestClient[Any], job: dict[str, Any]) -> dict[str, Any]:
    return admin.get(f"/admin/jobs/{job['id']}").json()


def test_a_merge_is_a_job_and_can_be_cancelled(admin: TestClient[Any], run: Run) -> None:
    """Nothing is left of a cancelled one; the same command, left alone, makes a base."""
    home: Home = admin.app.state.settings.home
    admin.post("/admin/adapters", json={"name": "cat", "run": run.id})
    job = admin.post("/admin/adapters/cat/merge", json={"to": "tiny-cat"}).json()

    cancelled = admin.post(f"/admin/jobs/{job['id']}/cancel")

    assert cancelled.status_code == 200
    assert eventually(lambda: look(admin, job)["state"] == "cancelled")
    assert [path.name for path in home.bases.iterdir()] == ["tiny"]
    record = admin.app.state.jobs.get(job["id"]).record()
    assert record.result == str(home.bases / "tiny-cat")
    done = CliRunner().invoke(main, ["--home", str(home.root), *record.arguments])
    assert done.exit_code == 0, done.output
    assert "merging: 14/14 cat\ncomparing: " in done.stderr
    assert find_base("tiny-cat", home).architecture == find_base("tiny", home).architecture
    again = admin.post("/admin/adapters/cat/merge", json={"to": "tiny-cat"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "base_exists")


def test_what_cannot_be_measured_or_merged_is_refused(admin: TestClient[Any], run: Run) -> None:
    """Before any process is started, naming the field."""
    admin.post("/admin/adapters", json={"name": "cat", "run": run.id})
    unknown = admin.post("/admin/evaluations", json={"models": ["cat"], "dataset": "none"})
    manifest = admin.app.state.settings.home.datasets / "small" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    nothing = admin.post("/admin/evaluations", json={"dataset": "small"})
    nobody = admin.post("/admin/adapters/none/merge", json={"to": "x"})
    for to in ("tiny", "a b", "../x"):
        refused = admin.post("/admin/adapters/cat/merge", json={"to": to})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "to")

    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "dataset")
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (400, "models")
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (404, "adapter_not_found")
    assert admin.get("/admin/jobs").json()["data"] == []
