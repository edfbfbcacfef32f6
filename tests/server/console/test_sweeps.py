"""``/admin/sweeps``: as their records have them; the command line does what is to be done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.console.jobs import Jobs
from server.settings import ServerSettings
from tests.conftest import LiveServer
from tests.records import make_sweep
from tests.waiting import eventually
from training.runs import RunStore
from training.sweeps.lock import conducting
from training.sweeps.store import SweepStore

DEFINITION = 'name = "ranks"\ndata = "none"\nbase = "pocket"\n\n[fields]\n"lora.r" = [4, 8]\n'


@pytest.fixture
def admin(live: LiveServer) -> Iterator[httpx.Client]:
    """A client of a real server, with its token."""
    with live() as server:
        headers = {"authorization": f"Bearer {server.serving.token}"}
        with httpx.Client(base_url=server.serving.base_url, headers=headers, timeout=60) as client:
            yield client


def test_a_sweep_is_shown_as_it_stands(admin: httpx.Client, settings: ServerSettings) -> None:
    """Whoever started it: the completed trials by their loss, then the others as their runs are."""
    home = settings.home
    record = make_sweep(home)
    (home.sweeps / "odd").mkdir()
    (home.sweeps / "odd" / "sweep.json").write_text("{}")

    listed = admin.get("/admin/sweeps").json()
    found = admin.get("/admin/sweeps/rank").json()

    (card,) = listed["data"]
    assert found["sweep"] == card
    assert (card["trials"], card["completed"], card["failed"]) == (3, 1, 0)
    assert (card["fields"], card["best"], card["is_running"]) == (
        ["lora.r"],
        record.trials[0].id,
        False,
    )
    assert "odd" in listed["broken"]
    first, second, third = found["trials"]
    assert (first["id"], first["values"], first["validation_nll"]) == (
        card["best"],
        {"lora.r": 4},
        2.5,
    )
    assert [one["state"] for one in (second, third)] == ["interrupted", "pending"]
    assert [one["has_run"] for one in (first, second, third)] == [True, True, False]
    RunStore(home.runs).remove(RunStore(home.runs).get(first["run"]))
    (first, *_) = admin.get("/admin/sweeps/rank").json()["trials"]
    assert (first["validation_nll"], first["has_run"]) == (2.5, False)
    assert admin.get("/admin/sweeps/odd").status_code == 503
    for name in ("none", "..", "%2e%2e"):
        assert admin.get(f"/admin/sweeps/{name}").status_code == 404


def test_a_sweep_is_stopped_and_gone_on_with(
    admin: httpx.Client, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that runs ends with its trial, also one that the command line conducts; then it goes on
    with the file that is kept of it.
    """
    started: list[Any] = []
    begin = Jobs.start

    def noted(jobs: Jobs, kind: Any, subject: str, arguments: Any) -> Any:
        started.append((kind, subject, arguments))
        return begin(jobs, kind, subject, ["data", "list"])

    monkeypatch.setattr(Jobs, "start", noted)
    home, store = settings.home, SweepStore(settings.home.sweeps)
    record = make_sweep(home)
    (trial,) = [
        run
        for run in RunStore(home.runs).all()
        if run.status().adapter == f"rank-{record.trials[1].id}"
    ]
    with conducting(store.directory("rank")), trial.held():
        stopped = admin.post("/admin/sweeps/rank/stop").json()
        assert (stopped["is_running"], stopped["is_asked_to_stop"]) == (True, True)
        assert store.is_asked_to_stop("rank")
        assert trial.is_asked_to_stop()
        for path in ("/rank/resume", ""):
            body = {} if path else {"definition": DEFINITION.replace("ranks", "rank")}
            refused = admin.post(f"/admin/sweeps{path}", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "wrong_state")
    assert admin.post("/admin/sweeps/rank/stop").status_code == 409

    job = admin.post("/admin/sweeps/rank/resume?retry_failed=true").json()

    assert (job["kind"], job["subject"]) == ("sweep", "rank")
    kept = store.definition("rank")
    assert started == [("sweep", "rank", ["sweep", str(kept), "--retry-failed"])]
    kept.unlink()
    assert admin.post("/admin/sweeps/rank/resume").status_code == 409
    assert admin.post("/admin/sweeps/none/resume").status_code == 404


WRONG = [
    (("[4, 8]", "[4, 0]"), 'sweep.toml: fields."lora.r"[1]: Expected `int` >= 1.'),
    (("name", "nam"), "sweep.toml: sweep: Object contains unknown field `nam`."),
    (("= [4", "[4"), "sweep.toml is not valid TOML"),
    (("[4, 8]", "[" * 5000), "sweep.toml is not valid TOML"),
    (("8]", f"{'8' * 5000}]"), "sweep.toml is not valid TOML"),
    (('"pocket"', '"/etc"'), "sweep.toml: base: '/etc' is none of those"),
    (('"pocket"', '"pocket"\nrecipe = "/etc/passwd"'), "sweep.toml: recipe: '/etc/passwd' is none"),
]


def test_a_wrong_definition_is_refused_before_any_process(admin: httpx.Client) -> None:
    """In the command line's words, with the field; and a client names no files of the server."""
    for (old, new), complaint in WRONG:
        definition = DEFINITION.replace(old, new)
        for path in ("/admin/sweeps", "/admin/sweeps/plan"):
            refused = admin.post(path, json={"definition": definition})
            error = refused.json()["error"]
            assert (refused.status_code, error["param"]) == (400, "definition")
            assert complaint in error["message"]
    assert admin.get("/admin/jobs").json()["data"] == []


def test_the_command_line_plans_and_conducts(admin: httpx.Client, settings: ServerSettings) -> None:
    """What only it can tell is refused by it: at once to who plans, as the job's error else."""
    planned = admin.post("/admin/sweeps/plan", json={"definition": DEFINITION})
    job = admin.post("/admin/sweeps", json={"definition": DEFINITION}).json()

    assert planned.status_code == 400
    assert "No dataset is called 'none'." in planned.json()["error"]["message"]
    path = f"/admin/jobs/{job['id']}"
    assert eventually(lambda: admin.get(path).json()["state"] == "failed")
    assert "No dataset is called 'none'." in admin.get(path).json()["error"]
    (arguments,) = [one.record().arguments for one in Jobs(settings.home).all()]
    assert Path(arguments[1]).read_text("utf-8") == DEFINITION
