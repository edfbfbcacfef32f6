"""``/v1/load_lora_adapter`` and ``/v1/unload_lora_adapter``, on a real server with a real base."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.torch import load_file, save_file

from adapters.entry import Entry
from adapters.errors import AdapterError
from adapters.home import Home
from adapters.registry import Registry
from server.background import serve_in_thread
from server.engine.catalog import Catalog
from server.engine.loop import EngineLoop
from server.engine.runner import Runner
from server.engine.trial import KEY as TRIAL
from server.engine.trial import Trial
from server.process import Serving
from server.settings import ServerSettings
from tests.tiny import random_adapter
from tests.waiting import PATIENCE_S, eventually

MESSAGES = [{"role": "user", "content": "你好"}]
INCOMPATIBLE = "adapter_incompatible"
GREEDY = {"temperature": 0, "ignore_eos": True, "max_tokens": 100}


@dataclass(frozen=True)
class Server:
    """A running server, the directory that it may load from, and one that it may not."""

    serving: Serving
    home: Home
    base: Path
    allowed: Path
    elsewhere: Path

    def post(self, path: str, **body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.serving.token}"}
        url = f"{self.serving.api_url}/{path}"
        return httpx.post(url, json=body, headers=headers, timeout=PATIENCE_S)

    def load(self, name: str, path: Path | str, **more: Any) -> httpx.Response:
        return self.post("load_lora_adapter", lora_name=name, lora_path=str(path), **more)

    def unload(self, name: str) -> httpx.Response:
        return self.post("unload_lora_adapter", lora_name=name)

    def chat(self, model: str, **more: Any) -> httpx.Response:
        return self.post("chat/completions", model=model, messages=MESSAGES, **GREEDY | more)

    def adapter(self, name: str, seed: int = 0, **config: Any) -> Path:
        """A directory with a random adapter, where it may be loaded from."""
        return random_adapter(self.allowed / name, self.base, seed=seed, **config)

    def listed(self) -> dict[str, dict[str, Any]]:
        cards = httpx.get(f"{self.serving.api_url}/models").json()["data"]
        return {card["id"]: card for card in cards}

    def has_in_memory(self, name: str) -> bool:
        """Whether the version that ``name`` now stands for is loaded."""
        figures = httpx.get(f"{self.serving.base_url}/metrics").text
        return f'lccc_adapter_resident{{model="{name}"}} 1.0' in figures

    @property
    def registry(self) -> Registry:
        return Registry(self.home.registry)


async def _never(_: Catalog) -> None:
    await asyncio.Event().wait()


@pytest.fixture(scope="module")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It never looks at the registry by itself: what it knows of a change, it was told at once."""
    root = tmp_path_factory.mktemp("lora")
    home = Home(root / "home")
    home.bases.mkdir(parents=True)
    (home.bases / "tiny").symlink_to(tiny)
    (root / "allowed").mkdir()
    (root / "elsewhere").mkdir()
    settings = ServerSettings(
        home=home,
        base="tiny",
        port=0,
        device="cpu",
        drain_timeout_s=1.0,
        adapter_roots=(root / "allowed",),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Catalog, "follow", _never)
        with serve_in_thread(settings) as serving:
            yield Server(serving, home, tiny, root / "allowed", root / "elsewhere")


def error_of(answer: httpx.Response) -> tuple[int, str, str | None, str | None]:
    """Status, message, parameter and code of a refusal in OpenAI's shape."""
    error = answer.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    return answer.status_code, error["message"], error["param"], error["code"]


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def test_an_adapter_is_served_as_soon_as_it_is_loaded(server: Server) -> None:
    """The very next request finds it; it is listed, and registered as if by hand."""
    loaded = server.load("early", server.adapter("early", seed=1))
    answered = server.chat("early")

    assert loaded.status_code == 200
    assert loaded.text == "Success: LoRA adapter 'early' added successfully."
    assert loaded.headers["content-type"].startswith("text/plain")
    assert answered.headers["x-adapter-id"] == loaded.headers["x-adapter-id"] == "early"
    assert answered.headers["x-adapter-version"] == loaded.headers["x-adapter-version"]
    assert said(answered) != said(server.chat("tiny"))
    card = server.listed()["early"]
    assert (card["parent"], card["rank"], card["state"]) == ("tiny", 4, "ready")
    assert card["root"] == f"sha256:{server.registry.get('early').digest}"


def test_a_name_that_is_taken_is_replaced_only_when_that_is_said(server: Server) -> None:
    """Otherwise 400, with the way to do it, and clients are told not to try again."""
    first, second = server.adapter("first", seed=2), server.adapter("second", seed=3)
    version = server.load("taken", first).headers["x-adapter-version"]

    refused = server.load("taken", second)

    status, message, param, code = error_of(refused)
    assert (status, param, code) == (400, "lora_name", "adapter_exists")
    assert "load_inplace" in message
    assert refused.headers["x-should-retry"] == "false"
    assert server.chat("taken").headers["x-adapter-version"] == version
    replaced = server.load("taken", second, load_inplace=True)
    assert replaced.headers["x-adapter-version"] != version
    assert (
        server.chat("taken").headers["x-adapter-version"] == replaced.headers["x-adapter-version"]
    )


def test_a_running_reply_keeps_its_version_to_the_end(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a reply of the version that replaced it, and when the name is gone altogether."""
    version = server.load("steady", server.adapter("steady", seed=4)).headers["x-adapter-version"]
    other = server.adapter("other", seed=5)
    alone = said(server.chat("steady"))
    steps, launch, try_out = itertools.count(), Runner.launch, EngineLoop.try_out
    arrived, tried, go = (threading.Event() for _ in range(3))

    def announced(loop: EngineLoop, trial: Trial) -> None:
        try_out(loop, trial)
        arrived.set()

    def held(runner: Runner, chunks: Any) -> Any:
        """The reply waits for the other version's trial, lets it pass, and waits again."""
        if chunks[0].sequence.key == TRIAL:
            tried.set()
        elif next(steps) >= 10:
            assert (go if tried.is_set() else arrived).wait(PATIENCE_S)
        return launch(runner, chunks)

    monkeypatch.setattr(EngineLoop, "try_out", announced)
    monkeypatch.setattr(Runner, "launch", held)
    body = {"model": "steady", "messages": MESSAGES, "stream": True} | GREEDY
    url = f"{server.serving.api_url}/chat/completions"
    with (
        ThreadPoolExecutor() as pool,
        httpx.stream("POST", url, json=body, timeout=PATIENCE_S) as stream,
    ):
        lines = (line.removeprefix("data: ") for line in stream.iter_lines() if line)
        frames = [next(lines)]  # the reply has begun, and is not to end yet
        replaced = server.load("steady", other, load_inplace=True).headers["x-adapter-version"]
        beside = pool.submit(server.chat, "steady")
        assert eventually(lambda: server.has_in_memory("steady"))
        assert server.unload("steady").status_code == 200
        go.set()
        frames += [line for line in lines if line != "[DONE]"]

    choices = [json.loads(frame)["choices"][0] for frame in frames]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == alone
    assert stream.headers["x-adapter-version"] == version != replaced
    assert beside.result().headers["x-adapter-version"] == replaced
    assert said(beside.result()) != alone
    assert error_of(server.chat("steady"))[3] == "model_not_found"


def test_an_adapter_that_is_being_read_is_listed_as_loading(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first request for it until its weights are there; before and after it is ready."""
    server.load("slow", server.adapter("slow", seed=7))
    go, read = threading.Event(), Entry.read

    def held(entry: Entry, file: str) -> bytes:
        assert go.wait(PATIENCE_S)
        return read(entry, file)

    monkeypatch.setattr(Entry, "read", held)
    assert server.listed()["slow"]["state"] == "ready"
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(server.chat, "slow", max_tokens=4)
        assert eventually(lambda: server.listed()["slow"]["state"] == "loading")
        go.set()
        assert answer.result().status_code == 200
    assert server.listed()["slow"]["state"] == "ready"


def test_an_unloaded_adapter_is_gone(server: Server) -> None:
    """404 for whoever asks for it, and for whoever unloads it again."""
    server.load("brief", server.adapter("brief"))

    answer = server.unload("brief")

    assert answer.text == "Success: LoRA adapter 'brief' removed successfully."
    assert answer.headers["content-type"].startswith("text/plain")
    assert server.chat("brief").status_code == 404
    assert "brief" not in server.listed()
    status, message, param, code = error_of(server.unload("brief"))
    assert (status, param, code) == (404, "lora_name", "adapter_not_found")
    assert "brief" in message
    assert server.unload("tiny").status_code == 404


def test_ten_loads_at_once(server: Server) -> None:
    """Each is there when it is answered, and none is lost."""
    names = [f"many-{number}" for number in range(10)]
    for seed, name in enumerate(names):
        server.adapter(name, seed=seed, targets=("q_proj",))

    def load_and_use(name: str) -> int:
        assert server.load(name, server.allowed / name).status_code == 200
        return server.chat(name, max_tokens=4).status_code

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(load_and_use, names)) == [200] * 10
    assert set(names) <= server.listed().keys()


def test_of_many_loads_of_a_name_one_succeeds(server: Server) -> None:
    """Whoever comes second is told, also where both came at the same time."""
    path = server.adapter("wanted", targets=("q_proj",))

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: server.load("wanted", path), range(6)))

    refused = [error_of(answer)[3] for answer in answers if answer.status_code != 200]
    assert refused == ["adapter_exists"] * 5


def test_paths_lead_nowhere_else(server: Server) -> None:
    """Only directories below the allowed ones, links followed; others are not even looked for."""
    outside = random_adapter(server.elsewhere / "good", server.base)
    (server.allowed / "link").symlink_to(outside)
    (server.allowed / "up").symlink_to("..")
    loop = server.allowed / "loop"
    loop.symlink_to(loop)
    server.adapter("inside")
    paths = [
        str(outside),
        str(server.allowed / "link"),
        str(server.allowed / "up" / "elsewhere" / "good"),
        f"{server.allowed}/../elsewhere/good",
        f"{server.allowed}-not/good",
        str(server.elsewhere / "nobody"),
        "/",
        "allowed/inside",
        "~/adapters",
        "owner/name",
        f"{server.allowed}/\0",
        "/" + "x" * 4000,
    ]

    refused = {path: error_of(server.load("escape", path)) for path in paths}

    assert {(status, param, code) for status, _, param, code in refused.values()} == {
        (403, "lora_path", "path_not_allowed")
    }
    assert len({message for _, message, _, _ in refused.values()}) == 1, "no path is told apart"
    assert "--adapter-root" in refused["/"][1]
    assert error_of(server.load("escape", loop))[3] == "adapter_not_found"
    assert server.load("roundabout", f"{server.allowed}/../allowed/inside").status_code == 200


def test_the_runs_of_home_are_allowed(server: Server) -> None:
    """What was trained here needs no further permission."""
    trained = random_adapter(server.home.runs / "run" / "adapter", server.base)

    assert server.load("trained", trained).status_code == 200


def test_what_cannot_be_loaded_changes_nothing(server: Server) -> None:
    """Each refusal has its status and field; registry, listing and replies are as before."""
    server.load("present", server.adapter("present", seed=6))
    good = str(server.adapter("good"))
    broken = server.adapter("broken", use_dora=True)
    tensors = load_file(broken / "adapter_model.safetensors")
    tensors.pop(next(iter(tensors)))
    save_file(tensors, broken / "adapter_model.safetensors")
    other = server.adapter("other-base", base_name="somebody/else")
    half = server.adapter("half")
    (half / "adapter_model.safetensors").unlink()
    linked = server.adapter("linked")
    (linked / "adapter_config.json").rename(server.elsewhere / "config")
    (linked / "adapter_config.json").symlink_to(server.elsewhere / "config")
    (server.allowed / "empty").mkdir()
    (server.allowed / "file").write_text("{}")
    before = server.registry.snapshot(), server.registry.signature(), server.listed()
    alone = said(server.chat("present"))
    refusals = [
        ({"lora_path": str(server.allowed / "nobody")}, 404, "lora_path", "adapter_not_found"),
        ({"lora_path": str(server.allowed / "empty")}, 404, "lora_path", "adapter_not_found"),
        ({"lora_path": str(server.allowed / "file")}, 404, "lora_path", "adapter_not_found"),
        ({"lora_path": str(broken)}, 400, "lora_path", INCOMPATIBLE),
        ({"lora_path": str(other)}, 400, "lora_path", INCOMPATIBLE),
        ({"lora_path": str(half)}, 400, "lora_path", INCOMPATIBLE),
        ({"lora_path": str(linked)}, 400, "lora_path", INCOMPATIBLE),
        ({"lora_path": good, "lora_name": "tiny"}, 400, "lora_name", None),
        ({"lora_path": good, "lora_name": "a/b"}, 400, "lora_name", None),
        ({"lora_path": good, "lora_name": "Present"}, 400, "lora_name", None),
        ({"lora_path": good, "lora_name": ""}, 400, "lora_name", None),
        ({"lora_path": good, "lora_name": None}, 400, "lora_name", None),
        ({"lora_path": ["x"]}, 400, "lora_path", None),
        ({"lora_path": good, "load_inplace": "yes"}, 400, "load_inplace", None),
        ({}, 400, "lora_path", None),
    ]

    for given, status, param, code in refusals:
        answer = server.post("load_lora_adapter", **{"lora_name": "bad"} | given)
        found = error_of(answer)
        assert (found[0], *found[2:]) == (status, param, code), (given, found)

    reasons = error_of(server.load("bad", broken))[1]
    assert "use_dora" in reasons
    assert "1 tensor missing" in reasons
    assert "assume_base" in error_of(server.load("bad", other))[1]
    assert (server.registry.snapshot(), server.registry.signature(), server.listed()) == before
    assert said(server.chat("present")) == alone


def test_whose_base_has_another_name_can_be_vouched_for(server: Server) -> None:
    """VLLM has no word for it; ours is ``assume_base``, and all shapes still have to fit."""
    other = server.adapter("renamed", base_name="somebody/else")

    assert server.load("vouched", other).status_code == 400
    assert server.load("vouched", other, assume_base=True).status_code == 200


def test_fields_of_others_are_ignored_by_name(server: Server) -> None:
    """VLLM's further fields do no harm, and whoever mistypes one finds out."""
    path = server.adapter("further")

    loaded = server.load("further", path, is_3d_lora_weight=False, load_in_place=True)
    unloaded = server.post("unload_lora_adapter", lora_name="further", lora_int_id=1)

    assert loaded.headers["x-ignored-parameters"] == "is_3d_lora_weight, load_in_place"
    assert unloaded.headers["x-ignored-parameters"] == "lora_int_id"


def test_a_registry_that_cannot_be_written_is_the_servers_fault(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with the reason; nothing is half done."""

    def fail(*_: Any, **__: Any) -> None:
        raise AdapterError("The registry could not be written: no space left on device.")

    path = server.adapter("unlucky")
    monkeypatch.setattr(Registry, "register", fail)
    monkeypatch.setattr(Registry, "remove", fail)

    for answer in (server.load("unlucky", path), server.unload("early")):
        status, message, _, code = error_of(answer)
        assert (status, code) == (503, "registry_unavailable")
        assert "no space left" in message
