"""``/admin/datasets`` and ``/admin/uploads``: from a file in a browser to dialogues to look at."""

from __future__ import annotations

import json
from typing import Any

import pytest
from litestar.testing import TestClient

from server.app import create_app
from server.settings import ServerSettings
from tests.fakes import ScriptedEngine
from tests.waiting import eventually

DIALOGUES = [["今天 好 热", f"多 喝 水 {number}"] for number in range(12)]


@pytest.fixture
def admin(settings: ServerSettings, engine: ScriptedEngine) -> Any:
    """A client with the server's token."""
    app = create_app(settings, engine=engine, token="token")
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        client.headers["authorization"] = "Bearer token"
        yield client


def send(admin: TestClient[Any], name: str, content: bytes) -> str:
    """Upload a file in two pieces; its id."""
    card = admin.post("/admin/uploads", json={"name": name, "size": len(content)}).json()
    path, half = f"/admin/uploads/{card['id']}", len(content) // 2
    for offset, piece in ((0, content[:half]), (half, content[half:])):
        answer = admin.patch(path, params={"offset": offset}, content=piece)
        assert answer.status_code == 200
    assert answer.json()["received"] == len(content)
    return card["id"]


def prepared(admin: TestClient[Any], **fields: Any) -> dict[str, Any]:
    """The job of preparing a dataset, at its end."""
    path = "/admin/jobs/" + admin.post("/admin/datasets", json=fields).json()["id"]
    assert eventually(lambda: admin.get(path).json()["state"] != "running")
    return admin.get(path).json()


def test_an_uploaded_file_becomes_a_dataset(admin: TestClient[Any]) -> None:
    """With the report of its cleaning, and dialogues that show what is learnt."""
    upload = send(admin, "语料.json", json.dumps(DIALOGUES).encode())

    job = prepared(admin, name="small", upload=upload, valid_share=0.2, test_share=0.0)

    assert (job["state"], job["error"]) == ("completed", None)
    (listed,) = admin.get("/admin/datasets").json()["data"]
    assert listed == admin.get("/admin/datasets/small").json()
    assert (listed["inputs"][0]["name"], listed["inputs"][0]["pre_spaced"]) == ("语料.json", True)
    assert (listed["dialogues"], listed["cleaning"]["read"]) == (12, 12)
    shown = admin.get("/admin/datasets/small/preview", params={"count": 2}).json()
    assert len(shown["data"]) == 2
    spans = shown["data"][0]["sequences"][0]["spans"]
    assert [span["text"][:3] for span in spans if span["is_target"]] == ["多喝水"]
    taken = admin.post("/admin/datasets", json={"name": "small", "upload": upload})
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "dataset_exists")
    beyond = admin.get("/admin/datasets/small/preview", params={"first": 100}).json()
    assert (beyond["data"], beyond["total"]) == ([], listed["splits"]["train"]["dialogues"])


def test_what_cannot_be_read_is_said_as_the_command_line_says_it(admin: TestClient[Any]) -> None:
    """Naming the file and the record; nothing stays behind."""
    job = prepared(admin, name="bad", upload=send(admin, "bad.json", b'[["a", "b"], 7]'))

    assert job["state"] == "failed"
    assert "bad.json, record 2" in job["error"]
    assert admin.get("/admin/datasets").json()["data"] == []


def test_half_a_file_is_not_prepared(admin: TestClient[Any]) -> None:
    """Nor one that is not there; a piece in the wrong place is told the right one."""
    card = admin.post("/admin/uploads", json={"name": "a.json", "size": 10}).json()
    path = f"/admin/uploads/{card['id']}"
    assert admin.patch(path, content=b"12345").json()["received"] == 5
    assert admin.patch(path, params={"offset": 3}, content=b"").json()["received"] == 5

    again = admin.patch(path, content=b"12345")
    half = admin.post("/admin/datasets", json={"name": "a", "upload": card["id"]})
    none = admin.post("/admin/datasets", json={"name": "a", "upload": "0" * 16})

    assert (again.status_code, again.json()["error"]["code"]) == (409, "upload_out_of_step")
    assert "5 bytes" in again.json()["error"]["message"]
    assert (half.status_code, none.status_code) == (409, 404)


@pytest.mark.parametrize("name", ["../a", "a/b", "", "..", ".a", "a\x00", "\n", "a\n", "x" * 81])
def test_a_file_has_a_plain_name(admin: TestClient[Any], name: str) -> None:
    """No directories, no control characters."""
    answer = admin.post("/admin/uploads", json={"name": name, "size": 1})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "name")


def test_no_process_is_given_what_is_no_text(admin: TestClient[Any]) -> None:
    """A NUL in a value is the client's mistake."""
    upload = send(admin, "a.json", b"[]")
    asked = {"name": "a", "upload": upload, "overrides": {"spacing": "a\x00"}}
    assert admin.post("/admin/datasets", json=asked).status_code == 400


def test_a_damaged_dataset_is_listed_with_the_reason(
    admin: TestClient[Any], settings: ServerSettings
) -> None:
    """And is 503 by itself; an unknown one is 404."""
    (settings.home.datasets / "old").mkdir(parents=True)
    (settings.home.datasets / "old" / "manifest.json").write_text("{}")

    assert "prepare the dataset again" in admin.get("/admin/datasets").json()["broken"]["old"]
    assert admin.get("/admin/datasets/old").status_code == 503
    assert admin.get("/admin/datasets/none").status_code == 404
