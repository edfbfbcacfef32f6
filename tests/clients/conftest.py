"""Two servers, and other projects' clients that ask them: one process a language, once for all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.home import Home
from server.background import serve_in_thread
from server.settings import ServerSettings
from tests.clients.manual import python_examples
from tests.clients.stage import KEY, Stage
from tests.demo import Demo

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
NODE = Path(__file__).parent / "node"


@dataclass(frozen=True)
class Servers:
    """``stage``: scripted models behind a key. ``pocket``: real ones, open; has ``cat``."""

    stage: str
    pocket: str


@dataclass(frozen=True)
class Answers:
    """What a client's checks gave, by name."""

    outcomes: Mapping[str, Mapping[str, Any]]

    def __getitem__(self, check: str) -> Any:
        """What the check gave; fails with the client's own words if it raised."""
        outcome = self.outcomes[check]
        if "raised" in outcome:
            pytest.fail(outcome["raised"], pytrace=False)
        return outcome["gave"]


@pytest.fixture(scope="package")
def servers(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Both, for all tests of this folder; nothing that a client asks for changes them."""
    empty = Home(tmp_path_factory.mktemp("stage"))
    stage = ServerSettings(home=empty, port=0, api_key=KEY, drain_timeout_s=1)
    pocket = ServerSettings(home=demo.home, base="pocket", port=0, drain_timeout_s=1)
    with serve_in_thread(stage, Stage()) as one, serve_in_thread(pocket) as other:
        yield Servers(one.api_url, other.api_url)


@pytest.fixture(scope="package")
def python_clients(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What ``python/run.py`` says: LangChain, LiteLLM and the documents' Python examples."""
    if not PYTHON.exists():
        pytest.skip("the Python clients are not installed: `make test` does it")
    examples = [
        code.replace("http://127.0.0.1:8000/v1", servers.pocket) for code in python_examples()
    ]
    script = Path(__file__).parent / "python" / "run.py"
    home = tmp_path_factory.mktemp("python")
    return answered([str(PYTHON), str(script)], home, servers, examples=examples)


@pytest.fixture(scope="package")
def node_clients(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What ``node/run.mjs`` says: the official client and the Vercel AI SDK."""
    return answered([node(), str(NODE / "run.mjs")], tmp_path_factory.mktemp("node"), servers)


def node() -> str:
    """The program that runs the Node clients; without it or them, the test is skipped."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node.js is not installed")
    if not (NODE / "node_modules").exists():
        pytest.skip("the Node clients are not installed: `make test` does it, with npm")
    return program


def answered(command: Sequence[str], home: Path, servers: Servers, **more: Any) -> Any:
    """Run a program that asks the servers, and read what it says."""
    question = {"stage": servers.stage, "key": KEY, "pocket": servers.pocket, **more}
    done = subprocess.run(
        command,
        input=json.dumps(question),
        env=apart(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def apart(home: Path) -> dict[str, str]:
    """An environment in which a client finds no settings, and reaches nobody but our servers."""
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
        "NO_PROXY": "127.0.0.1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks for prices when it is imported
    }
