"""A server process: environment, socket, signals."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import pytest

from server.__main__ import _say, run
from server.background import serve_in_thread
from server.process import (
    CannotListen,
    DrainingServer,
    EngineBroken,
    Exposed,
    PortTaken,
    Serving,
    base_url,
    listen,
)
from server.settings import ServerSettings
from tests.conftest import LiveServer
from tests.fakes import Script, ScriptedEngine
from tests.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
from pathlib import Path
from adapters.home import Home
from server.__main__ import run
from server.settings import ServerSettings
from tests.conftest import LiveServer
from tests.fakes import Script, ScriptedEngine
from tests.waiting import PATIENCE_S, eventually
engine = ScriptedEngine(scripts=[eval(sys.argv[1])])
settings = ServerSettings(home=Home(Path("/nowhere")), port=0, drain_timeout_s=float(sys.argv[2]))
run(settings, engine=engine, on_ready=lambda serving: print(serving.api_url, flush=True))
print("closed" if engine.is_closed else "left open", flush=True)
"""


def started(script: str, drain_timeout_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, script, str(drain_timeout_s)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def reading(url: str, process: subprocess.Popen[str], signals: list[int]) -> str:
    """The stream of a server that gets ``signals`` once the stream is open."""
    body = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=30) as response:
        for number in signals:
            process.send_signal(number)
        return response.read().decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_streams_finish(number: int) -> None:
    """The whole reply arrives, the engine is closed, the exit code is 0, stderr stays empty."""
    with started("Script(pieces=('a', 'b'), delay_s=0.3)", drain_timeout_s=30) as process:
        assert process.stdout is not None
        text = reading(process.stdout.readline().strip(), process, [number])
        rest, errors = process.communicate(timeout=60)

    assert '"content":"b"' in text
    assert text.endswith("data: [DONE]\n\n")
    assert (process.returncode, rest, errors) == (0, "closed\n", "")


def test_the_second_signal_ends_streams_now() -> None:
    """The reply would never come; it ends with an error frame instead."""
    with started("Script(hold_at=0)", drain_timeout_s=3600) as process:
        assert process.stdout is not None
        signals = [signal.SIGTERM, signal.SIGINT]  # two of one kind could arrive as one
        text = reading(process.stdout.readline().strip(), process, signals)
        rest, errors = process.communicate(timeout=60)

    assert "shutting_down" in text
    assert text.endswith("data: [DONE]\n\n")
    assert (process.returncode, rest, errors) == (0, "closed\n", "")


def test_a_stuck_engine_does_not_keep_the_process(tmp_path: Path) -> None:
    """If streams do not even end when the engine closes, they are cut."""
    with started("Script(delay_s=3600)", drain_timeout_s=0) as process:
        assert process.stdout is not None
        with pytest.raises(httpx.RemoteProtocolError):
            reading(process.stdout.readline().strip(), process, [signal.SIGTERM])
        rest, errors = process.communicate(timeout=60)

    assert (process.returncode, rest) == (0, "closed\n"), errors


def test_an_engine_that_ends_by_itself_ends_the_server(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a message instead of answering 503 for ever; the streams before it are finished."""
    engine = ScriptedEngine(scripts=[Script(hold_at=1)])
    serving: Future[Serving] = Future()

    def ask() -> str:
        url = f"{serving.result(60).api_url}/chat/completions"
        body = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        with httpx.stream("POST", url, json=body, timeout=60) as response:
            lines = response.iter_lines()
            first = next(line for line in lines if "你好" in line)
            engine.is_ready = False
            engine.release()
            return "\n".join([first, *lines])

    monkeypatch.setattr("logging.basicConfig", lambda **_: None)  # the tests' own stays
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask)
        with pytest.raises(EngineBroken, match="Start it again"):
            run(
                msgspec.structs.replace(settings, port=0),
                engine=engine,
                on_ready=serving.set_result,
            )

    assert asked.result().rstrip().endswith("data: [DONE]")
    assert engine.is_closed


def test_too_few_file_descriptors_are_told_once(
    live: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    """With what to do, and not for each try to accept; who has waited is served."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with live() as server, socket.socket() as client:
        client.settimeout(PATIENCE_S)
        lowest_free = os.dup(client.fileno())
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            client.connect(("127.0.0.1", int(server.serving.base_url.rpartition(":")[2])))
            client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert eventually(lambda: "No new connection" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert client.recv(100).startswith(b"HTTP/1.1 200")

    assert "ulimit -n" in caplog.text
    assert caplog.text.count("Too many open files") == 1


def test_python_m_server_explains_a_missing_base(tmp_path: Path) -> None:
    """An expected failure is one message and exit code 1, without a traceback."""
    environment = os.environ | {"LCCC_HOME": str(tmp_path), "LCCC_BASE": "nobody", "LCCC_PORT": "0"}

    ended = subprocess.run(
        [sys.executable, "-m", "server"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: The base 'nobody' is not on this machine")
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_python_m_server_says_where_and_with_which_token(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On stderr; whoever started it has an admin key without making one."""
    _say(Serving(base_url="http://127.0.0.1:8000", models=(), token="lccc-t"))

    said = capsys.readouterr()
    assert said.out == ""
    assert "http://127.0.0.1:8000/v1" in said.err
    assert "until this server ends): lccc-t" in said.err


@pytest.fixture
def taken(settings: ServerSettings) -> ServerSettings:
    """Settings whose port somebody listens on."""
    with listen(settings) as other:
        yield msgspec.structs.replace(settings, port=other.getsockname()[1])


def test_a_taken_port_is_named(taken: ServerSettings) -> None:
    """With the ways out."""
    with pytest.raises(PortTaken, match=rf"Port {taken.port} .* --port 0"):
        listen(taken)


def test_a_following_port_is_taken_only_when_asked(taken: ServerSettings) -> None:
    """``port_search`` says how many more may be tried."""
    with listen(msgspec.structs.replace(taken, port_search=50)) as listener:
        assert taken.port < listener.getsockname()[1] <= taken.port + 50


def test_an_address_of_another_machine_is_an_error(settings: ServerSettings) -> None:
    """Searching further ports would not help."""
    elsewhere = msgspec.structs.replace(settings, host="192.0.2.1", allow_unauthenticated=True)

    with pytest.raises(CannotListen, match=r"192\.0\.2\.1"):
        listen(elsewhere)


def test_the_network_is_refused_without_a_word_of_the_user(settings: ServerSettings) -> None:
    """The message has the switch that allows it."""
    exposed = msgspec.structs.replace(settings, host="0.0.0.0")

    with pytest.raises(Exposed, match="--allow-unauthenticated"):
        listen(exposed)
    with listen(msgspec.structs.replace(exposed, allow_unauthenticated=True)) as listener:
        assert base_url("0.0.0.0", listener).startswith("http://127.0.0.1:")


def test_idle_connections_outlast_the_clients_patience(settings: ServerSettings) -> None:
    """They have 5 s (httpx) and 60 s (nginx); who closes last breaks no request off."""
    assert DrainingServer(settings, ScriptedEngine(), None).config.timeout_keep_alive > 60


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_an_ipv6_url_has_brackets(settings: ServerSettings) -> None:
    """``::1`` listens and is reached."""
    six = msgspec.structs.replace(settings, host="::1")
    try:
        listen(six).close()
    except CannotListen:
        pytest.skip("this machine has no IPv6 loopback")

    with serve_in_thread(six, ScriptedEngine()) as serving:
        assert serving.base_url.startswith("http://[::1]:")
        assert httpx.get(f"{serving.base_url}/health").json() == {"status": "ok"}


def test_an_engine_that_cannot_start_is_reported(settings: ServerSettings) -> None:
    """``serve_in_thread`` raises what the engine raised, and closes the engine."""

    class Broken(ScriptedEngine):
        async def start(self) -> None:
            raise MemoryError("no room for the weights")

    engine = Broken()
    with pytest.raises(MemoryError, match="no room"), serve_in_thread(settings, engine):
        pytest.fail("it must not get here")
    assert engine.is_closed


def test_the_http_side_loads_no_torch() -> None:
    """The environment is prepared before torch is imported, so nothing may import it earlier."""
    code = "import sys, server.__main__; print({'torch', 'transformers'} & set(sys.modules))"

    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert ended.stdout == "set()\n"
