"""``lccc-admin base``: build, download, refuse; and how a base is found again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.home import Home
from admin.cli import main
from admin.commands.base import base_argument
from admin.context import AdminContext
from admin.output import Output
from tests.tiny import tiny_base
from training.errors import DownloadFailed


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub instead of the developer's."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where `pocket` was built; a tiny random base takes its place."""
    places: list[Path] = []

    def build_pocket(directory: Path, *, on_progress: Callable[[int, int, str], None]) -> None:
        places.append(directory)
        on_progress(1, 1, "")
        tiny_base(directory)

    monkeypatch.setattr("training.pocket.base.build_pocket", build_pocket)
    return places


def run(home: Home, *arguments: object) -> Result:
    command = ["--home", str(home.root), "base", *map(str, arguments)]
    return CliRunner().invoke(main, command)


def snapshot(hub_cache: Path, name: str) -> Path:
    """The directory in which the hub's cache keeps the files of ``name``."""
    repository = hub_cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    return repository / "snapshots" / "abc"


def test_pocket_is_built_once_and_again_on_demand(home: Home, built: list[Path]) -> None:
    """Nothing on stdout; the second call finds what is there, `--rebuild` does not look."""
    first, second = run(home, "pocket"), run(home, "pocket")

    assert (first.exit_code, first.stdout, second.exit_code) == (0, "", 0)
    assert built == [home.bases / "pocket"]
    assert "Building 'pocket'" in first.stderr
    assert second.stderr == (
        f"pocket is at {home.bases / 'pocket'}: qwen3, 2 layers, hidden size 64, "
        "context 512 tokens.\n"
    )
    assert run(home, "pocket", "--rebuild").exit_code == 0
    assert len(built) == 2


def test_an_unusable_pocket_can_be_rebuilt(home: Home, built: list[Path]) -> None:
    """What is damaged is refused, and `--rebuild` puts it right."""
    (home.bases / "pocket").mkdir(parents=True)
    (home.bases / "pocket" / "config.json").write_text("{}")

    assert "is a None model" in run(home, "pocket").stderr
    assert run(home, "pocket", "--rebuild").exit_code == 0


@pytest.mark.parametrize("name", ["org/model", "/models/foo", "nobody"])
def test_only_what_is_built_here_is_rebuilt(home: Home, name: str) -> None:
    """Anything else with `--rebuild` is a slip, not a download."""
    result = run(home, name, "--rebuild")

    assert result.exit_code == 2
    assert "--rebuild is for 'pocket' and 'bench-0.6b' alone" in result.stderr
    assert f"'{name}' is not built here." in result.stderr


def test_an_interrupted_download_is_taken_up_again(
    home: Home, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot without its tokenizer is completed, then found without another download."""
    path = tiny_base(snapshot(hub_cache, "org/model"))
    tokenizer = (path / "tokenizer.json").read_bytes()
    (path / "tokenizer.json").unlink()
    asked: list[str] = []

    def download_base(name: str) -> Path:
        asked.append(name)
        (path / "tokenizer.json").write_bytes(tokenizer)
        return path

    monkeypatch.setattr("training.download.download_base", download_base)

    first, second = run(home, "org/model"), run(home, "org/model")

    assert (first.exit_code, second.exit_code, asked) == (0, 0, ["org/model"])
    assert "downloading it from the hub" in first.stderr
    assert f"org/model is at {path}" in second.stderr


def test_a_repository_without_usable_weights_is_named_so(
    home: Home, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is here after the download; "not on this machine" would send the user in a circle."""
    path = tiny_base(snapshot(hub_cache, "org/model"))
    (path / "model.safetensors").unlink()
    monkeypatch.setattr("training.download.download_base", lambda _: path)

    result = run(home, "org/model")

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"Error: {path} holds no *.safetensors weights."


def test_a_failed_download_is_one_message(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason and what else can be done."""

    def download_base(name: str) -> Path:
        raise DownloadFailed(name, "404 Client Error")

    monkeypatch.setattr("training.download.download_base", download_base)

    result = run(home, "org/model")

    assert result.exit_code == 1
    assert "Error: 'org/model' could not be downloaded: 404 Client Error." in result.stderr


def test_a_name_that_is_nowhere_is_not_downloaded(home: Home) -> None:
    """Only `org/model` is a hub id."""
    result = run(home, "nobody")

    assert result.exit_code == 1
    assert "The base 'nobody' is not on this machine" in result.stderr


@pytest.mark.parametrize(
    ("name", "has_name", "has_path", "expected"),
    [
        ("foo", True, True, "foo"),
        ("foo", False, True, "{path}"),
        ("foo", False, False, "{path}"),
        ("pocket", False, True, "{path}"),
        ("pocket", False, False, "pocket"),
        ("org/model", False, False, "org/model"),
    ],
)
def test_a_run_finds_its_base_again(
    home: Home, tmp_path: Path, name: str, has_name: bool, has_path: bool, expected: str
) -> None:
    """By name where that leads anywhere, else by the directory that it was given as; what can be
    built or downloaded again is asked for by name.
    """
    path = tmp_path / "models" / "foo"
    for directory, is_there in ((home.bases / name, has_name), (path, has_path)):
        if is_there:
            directory.mkdir(parents=True)
            (directory / "config.json").write_text("{}")
    admin = AdminContext(home, Output())

    assert base_argument(admin, name, str(path)) == expected.format(path=path)
    assert base_argument(admin, name, None) == name
