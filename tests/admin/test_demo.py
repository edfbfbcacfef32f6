"""``lccc-admin demo`` where it must not just go on: what a user owns, stops, failures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.base import Base, read_base
from adapters.home import Home
from adapters.manifest import MANIFEST_FILE, PROJECTIONS, Manifest, RunRef
from adapters.registry import Registry
from admin.chat_client import ChatFailed
from admin.cli import main
from admin.commands.demo import ask, speed
from tests.conftest import LiveServer
from tests.fakes import Script
from tests.tiny import random_adapter, tiny_base
from training.runs import RunStore

ROOT = Path(__file__).parents[2]
SERVED = """
from admin.cli import main
from admin.commands import demo
from server import background
from tests.fakes import ScriptedEngine, card

class Engine(ScriptedEngine):
    async def close(self):
        await super().close()
        print("engine closed", flush=True)

start = background.serve_in_thread
cards = [card(name) for name in ("pocket", "cat", "scholar")]
background.serve_in_thread = lambda settings: start(settings, Engine(cards=cards))
demo.obtain_base = demo._train = lambda *_, **__: None
main()
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return read_base(tiny_base(tmp_path_factory.mktemp("bases") / "pocket"), "pocket")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home.root), "demo", *arguments])


def register(home: Home, base: Base, name: str, dataset: str | None) -> str:
    """Register a random adapter, trained on ``dataset`` or elsewhere; its digest."""
    path = random_adapter(home.root / "made" / name, base.path, base_name="pocket")
    if dataset:
        manifest = Manifest(
            base=base.ref,
            rank=4,
            alpha=8.0,
            target_modules=PROJECTIONS,
            run=RunRef("r", dataset, "a" * 64, "b" * 64, 3),
        )
        (path / MANIFEST_FILE).write_bytes(manifest.encoded())
    return Registry(home.registry).register(path, name, base).digest


@pytest.mark.parametrize(("name", "dataset"), [("cat", None), ("scholar", "mine")])
def test_an_adapter_of_the_users_own_is_not_replaced(
    home: Home, base: Base, name: str, dataset: str | None
) -> None:
    """It is refused with advice before anything is built or trained."""
    digest = register(home, base, name, dataset)

    result = run(home, "--once")

    assert result.exit_code == 1
    assert f"called '{name}'" in result.stderr
    assert f"`lccc-admin adapters remove {name}`" in result.stderr
    assert "--home DIR" in result.stderr
    assert "Building" not in result.stderr
    assert Registry(home.registry).get(name).digest == digest
    assert not home.runs.exists()


def test_a_stopped_training_ends_the_demo(
    home: Home, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after Ctrl-C: how to go on, exit code 130, no second training, no server. An adapter of an
    earlier demo may be trained anew.
    """
    register(home, base, "cat", "demo-cat")
    home.bases.mkdir()
    (home.bases / "pocket").symlink_to(base.path)
    monkeypatch.setattr(
        "admin.commands.train.stop_on_signal", lambda _say: nullcontext(lambda: True)
    )

    result = run(home, "--once")

    (record,) = RunStore(home.runs).all()
    assert result.exit_code == 130, result.stderr
    assert (record.status().adapter, record.status().state) == ("cat", "stopped")
    assert f"  lccc-admin train --resume {record.id}\n" in result.stderr
    assert "lccc-admin demo" in result.stderr
    assert "server" not in result.stderr


def test_a_reply_is_streamed_and_timed(live: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, and tokens from the usage of the last chunk; proxies of the environment are not asked,
    they cannot reach this machine's loopback.
    """
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with live(Script(pieces=("你", "好", "！"), delay_s=0.01)) as server:
        reply = ask(server.url, "poet")

    assert (reply.model, reply.text) == ("poet", "你好！")
    assert reply.first_text_s > 0
    assert reply.tokens_per_s > 0


@pytest.mark.parametrize(
    ("tokens", "first_s", "took_s", "expected"),
    [
        (11, 0.5, 1.0, 20),
        (11, 0.499, 0.5, 22),  # in one piece: not 10,000 tokens a second
        (1, 0.5, 0.5, 2),
        (0, 0.0, 0.5, 0),
    ],
)
def test_a_reply_in_one_piece_is_not_said_to_be_quicker_than_it_was(
    tokens: int, first_s: float, took_s: float, expected: float
) -> None:
    """Where the time between the texts cannot be seen, it is that since the request."""
    assert speed(tokens, first_s, took_s) == pytest.approx(expected)


def test_a_reply_that_breaks_off_is_a_clear_error(live: LiveServer) -> None:
    """The status was 200 already; the frame in the stream says what happened."""
    with (
        live(Script(pieces=("半", "x"), fail_at=1)) as server,
        pytest.raises(ChatFailed, match=r"^The scripted failure\.$"),
    ):
        ask(server.url, "poet")


def test_a_refused_request_is_a_clear_error(live: LiveServer) -> None:
    """The server's own words."""
    with live() as server, pytest.raises(ChatFailed, match="nobody"):
        ask(server.url, "nobody")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_either_signal_ends_the_serving_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """The replies were shown; then the server is drained, its engine closed, exit code 0."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVED, "--home", str(tmp_path), "demo", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "Ctrl-C stops." in line:
                break
        process.send_signal(number)
        shown, rest = process.communicate(timeout=60)

    assert process.returncode == 0, said + rest
    assert rest == "Stopped.\n"
    assert "你好！" in shown
    assert shown.endswith("engine closed\n")
    assert json.dumps("我想去看电影", ensure_ascii=False) in said
