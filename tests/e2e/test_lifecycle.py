"""Adapters that come and go while the server runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from itertools import count

import httpx
import pytest

from adapters.home import Home
from server.engine.loop import Reading
from server.engine.runner import Runner
from server.engine.sequence import Chunk
from server.process import Serving
from tests.demo import lccc_admin
from tests.waiting import eventually
from training.runs import RunStore

pytestmark = pytest.mark.timeout(700)
STEPS = ("--recipe", "pocket", "--set", "training.max_steps=4", "--set", "training.batch_size=4")


def ask(serving: Serving, model: str, **more: object) -> httpx.Response:
    """One whole reply."""
    body = {"model": model, "messages": [{"role": "user", "content": "你好"}], "max_tokens": 20}
    return httpx.post(f"{serving.api_url}/chat/completions", json=body | more, timeout=60)


def listed(serving: Serving) -> list[str]:
    """The served models' names."""
    return [card["id"] for card in httpx.get(f"{serving.api_url}/models").json()["data"]]


def test_a_training_while_the_server_runs_is_served_without_a_restart(
    serving: Serving, home: Home
) -> None:
    """LCCC JSON in, `train`, and the running server lists the adapter and answers by its name."""
    raw = home.root / "mine.json"
    raw.write_text(
        json.dumps([["早 上 好", "早 安 主 人"], ["晚 安", "好 梦"]] * 12), encoding="utf-8"
    )
    prepared = lccc_admin(home, "data", "prepare", str(raw), "--name", "mine")
    assert prepared.exit_code == 0, prepared.stderr
    assert ask(serving, "mine").status_code == 404

    trained = lccc_admin(
        home, "train", "--data", "mine", "--name", "mine", "--base", "pocket", *STEPS
    )

    assert trained.exit_code == 0, trained.stderr
    assert eventually(lambda: "mine" in listed(serving))
    answered = ask(serving, "mine")
    assert answered.status_code == 200, answered.text
    assert answered.json()["model"] == "mine"


def test_removal_ends_the_name_but_no_running_stream(
    serving: Serving, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that has begun ends as it would have; before that already the name is unknown."""
    alone = ask(serving, "cat", temperature=0, max_tokens=200).json()
    assert alone["usage"]["completion_tokens"] > 4
    go, steps, launch = threading.Event(), count(), Runner.launch

    def held(runner: Runner, chunks: Sequence[Chunk]) -> Reading:
        if next(steps) >= 3:
            assert go.wait(60)
        return launch(runner, chunks)

    monkeypatch.setattr(Runner, "launch", held)
    body = {
        "model": "cat",
        "messages": [{"role": "user", "content": "你好"}],
        "temperature": 0,
        "max_tokens": 200,
        "stream": True,
    }
    url = f"{serving.api_url}/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=60) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data: {"))
        frames = [next(lines)]
        removed = lccc_admin(home, "adapters", "remove", "cat", "--yes")
        assert removed.exit_code == 0, removed.stderr
        assert eventually(lambda: "cat" not in listed(serving))
        assert ask(serving, "cat").status_code == 404
        go.set()
        frames += lines

    deltas = [json.loads(frame[6:])["choices"][0]["delta"] for frame in frames]
    text = "".join(each.get("content", "") for each in deltas)
    assert text == alone["choices"][0]["message"]["content"]
    assert ask(serving, "scholar").status_code == 200


def test_replacing_an_adapter_serves_the_new_version(serving: Serving, home: Home) -> None:
    """Registering another adapter under the name: the next request is answered by it."""
    scholar = RunStore(home.runs).all()[0]
    assert scholar.status().adapter == "scholar"
    before = ask(serving, "cat", temperature=0)

    lccc_admin(
        home,
        "adapters",
        "register",
        str(scholar.adapter),
        "--name",
        "cat",
        "--base",
        "pocket",
    )
    assert eventually(
        lambda: (
            ask(serving, "cat").headers["x-adapter-version"]
            == ask(serving, "scholar").headers["x-adapter-version"]
        )
    )

    after = ask(serving, "cat", temperature=0)
    same = ask(serving, "scholar", temperature=0)
    content = [one.json()["choices"][0]["message"]["content"] for one in (before, after, same)]
    assert content[1] == content[2] != content[0]


def test_ctrl_c_stops_a_training_that_resume_finishes(home: Home) -> None:
    """The first SIGINT checkpoints and says how to go on; going on ends in a registration."""
    arguments = ["--data", "demo-cat", "--name", "late", "--base", "pocket", "--recipe", "pocket"]
    arguments += ["--set", "training.max_steps=40", "--set", "training.batch_size=4"]
    with subprocess.Popen(
        [sys.executable, "-m", "admin", "train", *arguments, "--set", "record.log_every=1"],
        env={**os.environ, "LCCC_HOME": str(home.root)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "step 5/" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 0
    stop = re.search(r"Stopped at step (\d+) of (\d+)", rest)
    command = re.search(r"lccc-admin train --resume (\S+)", rest)
    assert stop, said + rest
    assert command
    run = RunStore(home.runs).get(command.group(1))
    assert run.status().state == "stopped"

    resumed = lccc_admin(home, "train", "--resume", run.id)

    assert resumed.exit_code == 0, resumed.stderr
    assert f"resumed at step {stop.group(1)}" in resumed.stderr
    assert run.status().state == "completed"
    assert "late" in lccc_admin(home, "adapters", "list").stdout
