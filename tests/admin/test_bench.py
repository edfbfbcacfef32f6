"""``lccc-admin bench``: from the command line to the figures, over real servers and engines."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from adapters.base import Architecture, read_base
from adapters.home import Home
from adapters.manifest import PROJECTIONS, Manifest, RunRef
from adapters.registry import Registry
from admin.bench.errors import BenchFailed
from admin.bench.in_process import EngineSide
from admin.bench.models import obtain_adapters
from admin.bench.serve import token_counter
from admin.bench.timeline import Round, Timeline
from admin.cli import main
from admin.context import AdminContext
from admin.output import Output
from server.engine.errors import QueueFull
from tests.conftest import LiveServer
from tests.fakes import Script
from tests.tiny import random_adapter, tiny_base
from tests.waiting import eventually
from training.synthetic.base import make_random_base

pytestmark = pytest.mark.filterwarnings(
    # peft 0.21 on adapters that are given to it one after the other
    "ignore:Already found a `peft_config` attribute in the model:UserWarning"
)

SMALL = ["--concurrency", "2", "--requests", "4", "--rounds", "1", "--output-tokens", "3"]
SMALL_BASE = Architecture(
    model_type="qwen3",
    hidden_size=64,
    intermediate_size=128,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=32,
    vocab_size=2048,
    context_length=512,
)
THREE = Script(pieces=("a", "b", "c"))


def bench(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), "bench", *arguments])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a tiny base called tiny."""
    root = tmp_path_factory.mktemp("home")
    tiny_base(root / "bases" / "tiny")
    return root


def test_a_server_is_measured(live: LiveServer, tmp_path: Path) -> None:
    """A table of the figures on stdout; the rounds are told on stderr."""
    with live(THREE) as server:
        result = bench(tmp_path, "serve", "--url", server.url, *SMALL, "--warmup", "1")

    assert result.exit_code == 0, result.stderr
    rows = {line[:26].strip(): line[26:].strip() for line in result.stdout.splitlines()}
    assert rows["requests (failed)"] == "4 (0)"
    assert rows["output tokens a request"] == "3.0"
    assert "ITL p50 / p90 / p99, ms" in rows
    assert "round 1, server: " in result.stderr
    assert len(server.engine.requests) == 5


def test_what_is_asked_is_what_was_said(live: LiveServer, tmp_path: Path) -> None:
    """Models and extra bodies take turns, a null leaves a field out, lengths are exact."""
    extra = '[{"seed": 1, "ignore_eos": null}, {"seed": 2}, {"seed": 3}]'
    options = ["--model", "base", "--model", "poet", "--extra-body", extra, "--temperature", "0.5"]
    with live(THREE) as server:
        result = bench(tmp_path, "serve", "--url", server.url, *SMALL, *options, "--warmup", "0")
        requests = server.engine.requests

    assert result.exit_code == 0, result.stderr
    asked = {(each.model, each.sampling.seed) for each in requests}
    assert asked == {("base", 1), ("poet", 2), ("base", 3), ("poet", 1)}
    assert {each.sampling.ignore_eos for each in requests if each.sampling.seed == 1} == {False}
    assert {each.sampling.ignore_eos for each in requests if each.sampling.seed != 1} == {True}
    assert {(each.sampling.max_tokens, each.sampling.min_tokens) for each in requests} == {(3, 3)}
    assert {each.sampling.temperature for each in requests} == {0.5}
    assert len({each.prompt for each in requests}) == 4


def test_a_peer_is_measured_in_turn(live: LiveServer, tmp_path: Path) -> None:
    """The same prompts to both, and the ratios, as JSON with every round; keys stay secret."""
    slow = Script(pieces=("a", "b", "c"), delay_s=0.03)
    with live(THREE) as server, live(slow) as peer:
        options = ["--compare", peer.url, "--compare-model", "poet", "--api-key", "secret-key"]
        options += ["--rounds", "3", "--warmup", "1", "--json"]
        result = bench(tmp_path, "serve", "--url", server.url, *SMALL[:4], *options)
        sent = [[each.prompt for each in one.engine.requests] for one in (server, peer)]
        models = {each.model for each in peer.engine.requests}

    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert sent[0] == sent[1]
    assert models == {"poet"}
    assert list(report["sides"]) == ["server", "peer"]
    assert len(report["each_round"]["peer"]) == 3
    assert report["ratios"]["output_tokens_per_s"]["least"] > 1
    assert report["ratios"]["itl_ms"]["most"] < 1
    assert report["asked"]["workload"]["concurrency"] == 2
    assert "secret-key" not in result.stdout


def test_a_failed_request_is_reported_and_the_code_is_1(live: LiveServer, tmp_path: Path) -> None:
    """The figures of the others are printed all the same."""
    scripts = [THREE, Script(refusal=QueueFull(9, 1.0)), THREE]
    with live(*scripts) as server:
        result = bench(tmp_path, "serve", "--url", server.url, *SMALL, "--warmup", "0")

    assert result.exit_code == 1
    assert "4 (1)" in result.stdout
    assert "Error: server: 1 of 4 requests failed: 1× status 429: The server is" in result.stderr


def test_a_peer_that_dies_is_a_failure_of_the_peer(live: LiveServer, tmp_path: Path) -> None:
    """It answered the warm-up and then no more; our own figures stay."""
    dying = [THREE, Script(refusal=QueueFull(9, 1.0))]
    with live(THREE) as server, live(*dying) as peer:
        options = ["--compare", peer.url, "--warmup", "1"]
        result = bench(tmp_path, "serve", "--url", server.url, *SMALL, *options)

    assert result.exit_code == 1
    assert "Error: peer: 4 of 4 requests failed: 4× status 429" in result.stderr
    assert "4 (0)" in result.stdout


def test_short_replies_are_pointed_out(live: LiveServer, tmp_path: Path) -> None:
    """A peer that ignores min_tokens does less than it was asked."""
    with live(Script(pieces=("a", "b"))) as server:
        result = bench(tmp_path, "serve", "--url", server.url, *SMALL, "--warmup", "0")

    assert result.exit_code == 0
    assert "server: 4 replies are shorter than asked for." in result.stderr


def test_nobody_at_the_address_is_one_sentence(tmp_path: Path) -> None:
    """Before any round; nothing on stdout."""
    result = bench(tmp_path, "serve", "--url", "http://127.0.0.1:9/v1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: http://127.0.0.1:9/v1/models did not list its models: no conn" in result.stderr


def test_a_model_nobody_serves_is_one_sentence(live: LiveServer, tmp_path: Path) -> None:
    """The first request tells, and nothing is measured."""
    with live(THREE) as server:
        result = bench(tmp_path, "serve", "--url", server.url, "--model", "nobody")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "a first request for 'nobody' failed: status 404" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--extra-body", "{"], "is not JSON"),
        (["serve", "--extra-body", "[]"], "a JSON object"),
        (["serve", "--extra-body", "[1]"], "a JSON object"),
        (["serve", "--url", "http://x/v1", "--adapters", "2"], "--adapters is for our own server"),
        (["serve", "--tokenizer", "tiny"], "--tokenizer is for a --url"),
        (["engine", "--without-adapters"], "--adapters N"),
        (["engine", "--output-tokens", "1"], "--output-tokens"),
    ],
)
def test_options_that_do_not_go_together(home: Path, arguments: list[str], said: str) -> None:
    """Exit code 2, before a base is made or a server started."""
    result = bench(home, *arguments)

    assert result.exit_code == 2
    assert said in result.stderr


def test_the_engine_is_measured_with_and_without_adapters(home: Path) -> None:
    """Adapters are made and registered, both sides run in one engine, and steps have parts."""
    load = ["--concurrency", "4", "--requests", "6", "--prompt-tokens", "40"]
    options = ["--base", "tiny", "--adapters", "3", "--without-adapters", "--rounds", "2"]
    result = bench(home, "engine", *load, *options, "--output-tokens", "8", "--json")

    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert {name: side["output_tokens"] for name, side in report["sides"].items()} == {
        "adapters": 96,
        "base": 96,
    }
    assert {side["prompt_tokens"] for side in report["sides"].values()} == {480}
    assert report["ratios"]["output_tokens_per_s"]["median"] > 0
    assert sorted(Registry(Home(home).registry).snapshot().entries) == [
        "bench-1",
        "bench-2",
        "bench-3",
    ]
    for shares in report["shares"].values():
        assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("how", [(), ("--frames",), ("--http",), ("--adapters", "2")])
def test_the_hosts_part_of_a_token_is_told(home: Path, how: tuple[str, ...]) -> None:
    """By part, for steps in which all rows go on; the parts are all of the processor's time."""
    load = ["--concurrency", "3", "--requests", "4", "--prompt-tokens", "40"]
    options = ["--base", "tiny", "--rounds", "2", "--output-tokens", "24", *how]
    result = bench(home, "host", *load, *options, "--json")

    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["streams"], report["tokens"], report["rounds"]) == (3, 96, 2)
    assert report["adapters"] == (2 if "--adapters" in how else 0)
    parts = [each["least"] for each in report["parts_us"].values()]
    assert len(parts) == 5
    assert all(part > 0 for part in parts)
    assert sum(parts) <= report["total_us"]["most"]


def test_a_person_reads_the_hosts_part(home: Path) -> None:
    """A row for each part, behind the whole."""
    load = ["--concurrency", "2", "--requests", "2", "--output-tokens", "3"]
    shown = bench(home, "host", *load, "--base", "tiny", "--rounds", "1").stdout.splitlines()

    assert [row.partition(", µs")[0] for row in shown[1:]] == [
        "in all, on the clock",
        "in all, of the processor",
        "received and read by the event loop",
        "plan",
        "launch",
        "read",
        "accepted and handed over",
    ]


def test_sampling_has_a_share_of_the_step(home: Path) -> None:
    """With every parameter on and greedily, in steps in which all rows decode."""
    load = ["--concurrency", "4", "--requests", "4", "--prompt-tokens", "40"]
    together = ["--output-tokens", "400"]  # more than an engine writes while this thread waits
    options = [*load, *together, "--base", "tiny", "--rounds", "1", "--json"]
    result = bench(home, "sampling", *options)

    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert 0 < report["shares"]["every parameter"]["sampling"] < 1
    assert 0 < report["shares"]["greedy"]["sampling"] < 1


def test_guessing_ahead_is_measured_beside_not_guessing(home: Path) -> None:
    """The same replies from two engines in turn, of which one guesses: those that copy most."""
    load = ["--requests", "2", "--prompt-tokens", "40", "--output-tokens", "50", "--rounds", "1"]
    options = [*load, "--base", "tiny", "--json"]
    result = bench(home, "speculation", *options, "--candidates", "6")
    unchosen = bench(home, "speculation", *options, "--candidates", "2")

    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert unchosen.exit_code == 0, unchosen.stderr
    assert 1 > report["copied_share"] > json.loads(unchosen.stdout)["copied_share"] > 0
    assert {name: side["output_tokens"] for name, side in report["sides"].items()} == {
        "guessing": 100,
        "not": 100,
    }
    assert report["ratios"]["output_tokens_per_s"]["median"] > 0


def test_guesses_that_change_a_reply_are_not_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command fails and says where replies are the same."""
    texts = iter("ab")

    async def play(self: EngineSide, number: int, count: int | None = None) -> Round:
        del self, count
        timeline = Timeline(model="tiny", sent_s=0, text="" if number < 0 else next(texts))
        return Round(timelines=(timeline,), begun_s=0, ended_s=1)

    monkeypatch.setattr(EngineSide, "play", play)
    monkeypatch.setattr("admin.bench.engine.teller", lambda _: lambda *_: None)
    options = ["--base", "tiny", "--rounds", "1", "--candidates", "1"]
    result = bench(home, "speculation", *options)

    assert result.exit_code == 1
    assert "Replies with guesses differ" in result.stderr


def test_peft_is_measured_beside_the_engine(home: Path) -> None:
    """Tokens of decode steps alone, of as many rows with as many adapters."""
    sizes = ["--rows", "3", "--adapters", "2", "--context", "40", "--steps", "300"]
    result = bench(home, "peft", *sizes, "--base", "tiny", "--rounds", "2", "--json")

    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["sides"]["PEFT"]["output_tokens"] == 2 * 3 * 300
    assert 0 < report["sides"]["engine"]["output_tokens"] <= 2 * 3 * 300
    assert report["sides"]["PEFT"]["ttft_ms"] is None
    assert set(report["ratios"]) == {"output_tokens_per_s", "itl_ms"}


def test_http_is_measured_beside_the_engine(home: Path) -> None:
    """A real server process of our own and an engine here, with the same prompts and adapters."""
    load = ["--concurrency", "3", "--requests", "3", "--prompt-tokens", "40", "--rounds", "1"]
    options = ["--base", "tiny", "--adapters", "2", "--output-tokens", "12", "--json"]
    result = bench(home, "itl", *load, *options)

    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.stderr
    for side in report["sides"].values():
        assert (side["failed"], side["prompt_tokens"], side["output_tokens"]) == (0, 120, 36)
    assert report["ratios"]["itl_ms"]["median"] > 0


def test_a_late_turn_is_measured_with_and_without_the_cache(
    home: Path, live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers, one told to forget, hold the same chat; its last turn alone has figures."""
    started: list[list[str]] = []
    script = Script(pieces=("a", "b"), cached_tokens=7)

    @contextmanager
    def own_server(_home: Path, options: list[str], _say: Any) -> Iterator[str]:
        started.append(options)
        with live(script) as server:
            yield server.url
            chats.append(server.engine.prompts)

    chats: list[list[list[dict[str, str]]]] = []
    monkeypatch.setattr("admin.bench.turn.own_server", own_server)
    monkeypatch.setattr("tests.fakes.ScriptedEngine.model", lambda self, _: self.cards[0])
    sizes = ["--turn", "3", "--history-tokens", "120", "--reply-tokens", "2", "--rounds", "2"]

    result = bench(home, "turn", "--base", "tiny", *sizes, "--json")

    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert ["--no-prefix-cache" in options for options in started] == [False, True]
    assert chats[0] == chats[1]
    assert [len(messages) for messages in chats[0]] == [1, 3, 5] * 3
    assert [message["role"] for message in chats[0][2]] == ["user", "assistant"] * 2 + ["user"]
    assert chats[0][2][1]["content"] == "ab"
    count = token_counter(read_base(home / "bases" / "tiny", "tiny"))
    question = count(chats[0][2][-1:])
    assert 118 <= count(chats[0][2]) - question <= 120
    assert report["sides"]["with cache"]["requests"] == 2
    assert report["sides"]["with cache"]["cached_tokens"] == 14


def test_a_history_that_cannot_be_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the least that the turns need."""

    @contextmanager
    def nowhere(*_: Any) -> Iterator[str]:
        yield "http://127.0.0.1:9/v1"

    monkeypatch.setattr("admin.bench.turn.own_server", nowhere)

    result = bench(home, "turn", "--base", "tiny", "--history-tokens", "50")

    assert result.exit_code == 1
    assert "--history-tokens 50 is too short for 4 turns with replies of 16" in result.stderr


def test_an_adapter_that_someone_trained_is_left_alone(home: Path, tmp_path: Path) -> None:
    """A name of ours that has a training behind it stops the benchmark."""
    base = read_base(home / "bases" / "tiny", "tiny")
    registry = Registry(tmp_path / "registry")
    source = random_adapter(tmp_path / "one", base.path, base_name="tiny")
    run = RunRef("r", "d", "0" * 64, "0" * 64, 1)
    told = Manifest(base=base.ref, rank=4, alpha=8.0, target_modules=PROJECTIONS, run=run)
    (source / "adapter.json").write_bytes(told.encoded())
    before = registry.register(source, "bench-1", base)

    with pytest.raises(BenchFailed, match="'bench-1' is one that was trained"):
        obtain_adapters(AdminContext(Home(tmp_path), Output()), base, 2)

    assert registry.get("bench-1").digest == before.digest
    assert "bench-2" not in registry.snapshot().entries


def test_adapters_of_another_base_are_made_anew(home: Path, tmp_path: Path) -> None:
    """The names are the benchmark's; what is there for the base in hand stays as it is."""
    admin = AdminContext(Home(tmp_path), Output())
    tiny = read_base(home / "bases" / "tiny", "tiny")
    other = read_base(tiny_base(tmp_path / "bases" / "other", seed=1), "other")
    registry = Registry(admin.home.registry)

    assert obtain_adapters(admin, tiny, 2) == ["bench-1", "bench-2"]
    first = registry.get("bench-1")
    obtain_adapters(admin, tiny, 2)
    assert registry.get("bench-1") == first

    obtain_adapters(admin, other, 1)

    assert registry.get("bench-1").manifest.base.name == "other"
    assert registry.get("bench-2").manifest.base.name == "tiny"


def test_the_base_is_made_when_it_is_first_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with progress; `lccc-admin base` makes the same one."""
    made: list[Path] = []

    def small(directory: Path, on_progress: Any) -> Path:
        made.append(directory)
        return make_random_base(
            directory, SMALL_BASE, first_control_token=2000, on_progress=on_progress
        )

    monkeypatch.setattr("training.synthetic.base.make_random_base", small)
    sizes = ["--prompt-tokens", "20", "--output-tokens", "4", "--requests", "2"]

    result = bench(tmp_path, "engine", *sizes, "--rounds", "1")
    again = CliRunner().invoke(main, ["--home", str(tmp_path), "base", "bench-0.6b"])

    assert (result.exit_code, again.exit_code) == (0, 0), result.stderr
    assert made == [tmp_path / "bases" / "bench-0.6b"]
    assert "Making 'bench-0.6b'" in result.stderr
    assert "million weights" in result.stderr
    assert "Making" not in again.stderr


@pytest.mark.slow
def test_sigterm_leaves_no_server_behind(home: Path) -> None:
    """A benchmark that is told to end takes its server with it."""
    command = [sys.executable, "-m", "admin", "--home", str(home), "bench", "serve"]
    command += ["--base", "tiny", "--requests", "10000", "--rounds", "1", "--prompt-tokens", "40"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        process = psutil.Process(running.pid)
        assert eventually(lambda: any(child.net_connections() for child in process.children()))
        (server,) = process.children()
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)

    assert running.returncode != 0
    assert not server.is_running()
