"""`lccc-admin demo`: what a stranger sees after one command."""

from __future__ import annotations

import re

import pytest

from adapters.registry import Registry
from tests.demo import Demo, lccc_admin
from training.runs import RunStore

pytestmark = pytest.mark.timeout(700)


def table(stdout: str) -> list[list[str]]:
    """Names, replies and speeds, a cell for each model."""
    return [re.split(r"\s{2,}", line.strip()) for line in stdout.strip().splitlines()[-3:]]


@pytest.fixture(
    params=["demo", pytest.param("whole_demo", marks=pytest.mark.slow)], ids=["brief", "whole"]
)
def shown(request: pytest.FixtureRequest) -> Demo:
    """The demo that builds its base in fewer steps, and a user's."""
    return request.getfixturevalue(request.param)


def test_three_models_answer_in_three_characters(shown: Demo) -> None:
    """The replies stand side by side: a plain one, a cat's and a scholar's."""
    header, columns, speeds = table(shown.stdout)

    assert header == ["pocket", "cat", "scholar"]
    assert len(columns) == 3
    assert "喵" in columns[1]
    assert columns[2].startswith(("公子", "在下"))
    assert "喵" not in columns[0]
    assert not columns[0].startswith(("公子", "在下"))
    assert len(speeds) == 3
    assert all(re.fullmatch(r"\d+ ms to first text, \d+ tokens/s", speed) for speed in speeds)


def test_it_prints_lines_to_copy(demo: Demo) -> None:
    """A curl line, the OpenAI client and the chat command, with the address that it served on."""
    (url,) = set(re.findall(r"http://127\.0\.0\.1:\d+/v1", demo.stderr))

    assert f"curl -N {url}/chat/completions" in demo.stderr
    assert f'OpenAI(base_url="{url}"' in demo.stderr
    assert f"lccc-admin chat --model cat --url {url}" in demo.stderr


def test_nothing_but_its_own_words_is_on_stderr(shown: Demo) -> None:
    """No library's warning or progress bar reaches the user."""
    assert "Building 'pocket'" in shown.stderr
    assert "Warning" not in shown.stderr
    assert "Loading weights" not in shown.stderr
    assert "it/s" not in shown.stderr


def test_it_leaves_a_registry_and_two_finished_runs(shown: Demo) -> None:
    """Both adapters are registered with the runs that made them, and learnt something."""
    entries = Registry(shown.home.registry).snapshot().entries
    runs = {run.id: run.status() for run in RunStore(shown.home.runs).all()}

    assert sorted(entries) == ["cat", "scholar"]
    for name, entry in entries.items():
        assert entry.manifest.run is not None
        status = runs[entry.manifest.run.id]
        assert (status.state, status.adapter, status.digest) == ("completed", name, entry.digest)
        assert entry.manifest.metrics["validation_nll"] < 1.6
        assert entry.manifest.base.name == "pocket"


def test_a_second_demo_builds_and_trains_nothing_again(demo: Demo) -> None:
    """What is there is used; the replies are the same ones."""
    again = lccc_admin(demo.home, "demo", "--once", "--port", "0")

    assert again.exit_code == 0, again.stderr
    assert "Building" not in again.stderr
    assert "there already" in again.stderr
    assert table(again.stdout)[:2] == table(demo.stdout)[:2]
