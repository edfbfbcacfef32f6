"""``lccc-admin chat`` against a live server."""

from __future__ import annotations

import codecs
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest
from click.testing import CliRunner, Result

from admin.cli import main
from server.engine.errors import QueueFull
from tests.conftest import Live, LiveServer
from tests.fakes import Script
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


def chat(server: Live, typed: str, *arguments: str) -> Result:
    command = ["chat", "--url", server.url, *arguments]
    return CliRunner().invoke(main, command, input=typed)


def test_lines_in_give_replies_out(live: LiveServer) -> None:
    """Replies alone on stdout, one a line; the conversation grows; EOF ends it with code 0."""
    with live(Script(pieces=("一", "！")), Script(pieces=("二",))) as server:
        result = chat(server, "你好\n\n再见\n", "--model", "poet")

    assert result.stdout == "一！\n二\n"
    assert (result.stderr, result.exit_code) == ("", 0)
    assert server.engine.prompts[1] == [
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "一！"},
        {"role": "user", "content": "再见"},
    ]
    assert {request.model for request in server.engine.requests} == {"poet"}


def test_without_a_model_it_talks_to_the_first(live: LiveServer) -> None:
    """That is the base."""
    with live() as server:
        chat(server, "你好\n")

    assert [request.model for request in server.engine.requests] == ["base"]


def test_an_address_without_a_path_will_do(live: LiveServer) -> None:
    """As people type the one that they see in a browser."""
    with live(Script(pieces=("喵",))) as server:
        command = ["chat", "--url", server.url.removesuffix("/v1"), "--model", "poet"]
        assert CliRunner().invoke(main, command, input="你好\n").stdout == "喵\n"


def test_reset_forgets_and_system_instructs(live: LiveServer) -> None:
    """A system prompt stays over a reset, and goes with an empty ``/system``."""
    with live() as server:
        chat(server, "a\n/reset\nb\n/system 说诗\nc\n/reset\nd\n/system\ne\n")

    instructed = {"role": "system", "content": "说诗"}
    assert server.engine.prompts == [
        [{"role": "user", "content": "a"}],
        [{"role": "user", "content": "b"}],
        [instructed, {"role": "user", "content": "c"}],
        [instructed, {"role": "user", "content": "d"}],
        [{"role": "user", "content": "e"}],
    ]


def test_model_lists_and_switches(live: LiveServer) -> None:
    """The one in use has a star; an unknown name changes nothing."""
    with live() as server:
        result = chat(server, "/model\n/model poet\n/model nobody\na\n")

    assert [request.model for request in server.engine.requests] == ["poet"]
    assert result.stderr == (
        "* base\n  poet\nTalking to poet.\n'nobody' is not served. Served: base, poet.\n"
    )
    assert result.exit_code == 1


def test_quit_leaves_and_help_helps(live: LiveServer) -> None:
    """Nothing after ``/quit`` is sent; a mistyped command is not sent either."""
    with live() as server:
        result = chat(server, "/help\n/hlep\n/quit\na\n")

    assert server.engine.requests == []
    assert "/system TEXT" in result.stderr
    assert "There is no command /hlep. /help lists them." in result.stderr


def test_a_failed_exchange_is_a_sentence_and_forgotten(live: LiveServer) -> None:
    """The server's words on stderr, the next question goes on without it, exit code 1."""
    full = Script(refusal=QueueFull(64, 3.0))
    broken = Script(pieces=("half", "x"), fail_at=1)
    with live(Script(pieces=("一",)), full, broken, Script(pieces=("二",))) as server:
        result = chat(server, "a\nb\nc\nd\n")

    assert result.stdout == "一\nhalf\n二\n"
    assert result.stderr == (
        "The server is busy: 64 requests are waiting. Try again in 3 s.\nThe scripted failure.\n"
    )
    assert result.exit_code == 1
    assert [message["content"] for message in server.engine.prompts[3]] == ["a", "一", "d"]


def test_no_server_is_explained() -> None:
    """How to start one, instead of a traceback."""
    result = CliRunner().invoke(main, ["chat", "--url", "http://127.0.0.1:9/v1"], input="a\n")

    assert result.exit_code == 1
    assert "No server answers at http://127.0.0.1:9/v1" in result.stderr
    assert "lccc-admin serve" in result.stderr
    assert result.stdout == ""


def test_another_kind_of_server_is_explained(live: LiveServer) -> None:
    """So is another path than ``/v1``."""
    with live() as server:
        url = f"{server.serving.base_url}/api"
        result = CliRunner().invoke(main, ["chat", "--url", url], input="a\n")

    assert result.exit_code == 1
    assert "Invalid URL (GET /api/models)." in result.stderr


def test_proxies_of_the_environment_are_not_asked(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy cannot reach this machine's loopback."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with live() as server:
        assert chat(server, "a\n").stdout == "你好！\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")
def test_ctrl_c_stops_a_reply_and_not_the_session(live: LiveServer) -> None:
    """In a terminal: the reply stops, the server's work too, and the next question is answered."""
    with live(Script(pieces=("一", "二"), hold_at=1), Script(pieces=("三",))) as server:
        with Terminal("chat", "--url", server.url) as terminal:
            terminal.shows("> ")
            terminal.types("一个\n".encode())
            terminal.shows("\n一")
            terminal.types(b"\x03")
            terminal.shows("(stopped)")
            terminal.shows("> ")
            terminal.types("两个\n".encode())
            terminal.shows("\n三")
            terminal.shows("> ")
            terminal.types(b"/quit\n")
            assert terminal.process.wait(timeout=PATIENCE_S) == 0
        engine = server.engine

    assert engine.aborted == [engine.requests[0].id]
    assert [message["content"] for message in engine.prompts[1]] == ["一个", "一", "两个"]


class Terminal:
    """``lccc-admin`` in a pseudo-terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._side, inside = os.openpty()
        self._unread = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self.process = subprocess.Popen(
            [sys.executable, "-m", "admin", *arguments],
            cwd=ROOT,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            preexec_fn=lambda: _own(inside),  # noqa: PLW1509  # whoever owns it gets its Ctrl-C
        )
        os.close(inside)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._side)

    def types(self, keys: bytes) -> None:
        os.write(self._side, keys)

    def shows(self, text: str) -> None:
        """Wait until ``text`` is on the screen, after what was waited for before."""
        while text not in self._unread:
            assert select.select([self._side], [], [], PATIENCE_S)[0], self._unread
            self._unread += self._decode(os.read(self._side, 1000)).replace("\r", "")
        self._unread = self._unread.partition(text)[2]


def _own(terminal: int) -> None:
    """Make ``terminal`` the controlling one of this new session."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
