"""``/admin/adapters``: from a run into the registry, another name, a file, and away."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from adapters.home import Home
from tests.records import make_run
from tests.server.conftest import RealClient
from tests.tiny import random_adapter
from training.runs import Run


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
    assert (again.status_code, again.json()["error"]["code"]) == (400, "adapter_exists")
    replaced = {"name": "cat", "run": run.id, "replaces": True}
    assert admin.post("/admin/adapters", json=replaced).status_code == 200
    for to in ("dog", "tiny", "a b"):
        refused = admin.post("/admin/adapters/cat/rename", json={"to": to})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "to")
    assert models(admin) == ["tiny", "cat", "dog"]


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
