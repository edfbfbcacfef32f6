"""The documents' examples as printed, but for the port, against a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import NODE, Answers, Servers, apart, node
from tests.clients.manual import curl_examples, node_examples, python_examples

pytestmark = pytest.mark.timeout(700)
PRINTED = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize("number", range(len(python_examples())))
def test_python(python_clients: Any, number: int) -> None:
    """Each Python example runs and prints something."""
    assert Answers(dict(enumerate(python_clients["examples"])))[number].strip()


@pytest.mark.parametrize("number", range(len(node_examples())))
def test_node(servers: Servers, tmp_path: Path, number: int) -> None:
    """Each JavaScript example runs as a module, prints something, and complains of nothing."""
    done = subprocess.run(
        [node(), "--input-type=module"],
        input=node_examples()[number].replace(PRINTED, servers.pocket),
        cwd=NODE,  # where the packages are found
        env=apart(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(servers: Servers) -> None:
    """`curl -N` shows SSE frames that end with [DONE]."""
    printed = run_by_shell(servers, "curl -N")

    frames = printed.strip().split("\n\n")
    assert frames[-1] == "data: [DONE]"
    text = "".join(
        json.loads(frame.removeprefix("data: "))["choices"][0]["delta"].get("content", "")
        for frame in frames[:-1]
    )
    assert "喵" in text


def test_curl_scores_a_text(servers: Servers) -> None:
    """How likely each token of the prompt was, after those before it; nothing is added to it."""
    (choice,) = json.loads(run_by_shell(servers, '"echo": true'))["choices"]

    first, *others = choice["logprobs"]["token_logprobs"]
    assert choice["text"] == "今天下雨了"
    assert first is None
    assert others
    assert all(logprob < 0 for logprob in others)


def run_by_shell(servers: Servers, part: str) -> str:
    """What the one example of curl that has ``part`` in it prints."""
    (example,) = (one for one in curl_examples() if part in one)
    done = subprocess.run(
        ["sh", "-c", example.replace(PRINTED, servers.pocket)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_every_client_is_shown() -> None:
    """What the tests would miss, were an example taken away."""
    shown = "\n".join(python_examples() + node_examples())

    for client in ("openai", "langchain_openai", "litellm", "@ai-sdk/openai-compatible"):
        assert client in shown
