"""``lccc-admin adapters merge``, ``export`` and ``diff``, as a person sees them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.base import Base, read_base
from adapters.home import Home
from adapters.manifest import MANIFEST_FILE, PROJECTIONS, Manifest
from adapters.registry import Registry
from admin.cli import main
from tests.tiny import random_adapter, tiny_base

SYSTEM = "你是一只猫。"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A tiny base, and a cat and a dog that were trained on it."""
    home = Home(tmp_path_factory.mktemp("export") / "home")
    base = read_base(tiny_base(home.bases / "tiny"), "tiny")
    registry = Registry(home.registry)
    for seed, name in enumerate(("cat", "dog")):
        path = random_adapter(home.root / name, base.path, seed=seed, rank=9, std=0.1)
        manifest = Manifest(base.ref, 9, 8.0, PROJECTIONS, SYSTEM if name == "cat" else "汪")
        (path / MANIFEST_FILE).write_bytes(manifest.encoded())
        registry.register(path, name, base)
    return home


def run(home: Home, *arguments: object) -> Result:
    command = ["--home", str(home.root), "adapters", *map(str, arguments)]
    return CliRunner().invoke(main, command)


def test_a_merged_adapter_is_measured_and_can_be_served(home: Home, tmp_path: Path) -> None:
    """The last line of stdout serves it; what gets lost on the way is said."""
    done = run(home, "merge", "cat", "--out", tmp_path / "my cat")

    assert done.exit_code == 0, done.stderr
    command = shlex.split(done.stdout.splitlines()[-1])
    assert command == ["lccc-admin", "serve", "--base", str(tmp_path / "my cat")]
    assert isinstance(read_base(Path(command[-1]), "merged"), Base)
    assert "mean KL" in done.stdout
    assert "perplexity per character" in done.stdout
    assert SYSTEM in done.stderr


def test_an_exported_one_comes_with_vllms_command(home: Home, tmp_path: Path) -> None:
    """With the base's place, and a rank that vLLM knows."""
    done = run(home, "export", "cat", "--out", tmp_path / "out", "--json")

    found = json.loads(done.stdout)
    assert done.exit_code == 0, done.stderr
    assert found["agreement"]["largest_logit_difference"] == 0
    assert shlex.split(found["command"]) == [
        *("vllm", "serve", str(home.bases / "tiny"), "--enable-lora"),
        *("--max-lora-rank", "16", "--lora-modules", f"cat={tmp_path / 'out'}"),
    ]


def test_a_directory_can_be_exported_too(home: Home, tmp_path: Path) -> None:
    """It says where its base is found only if somebody does."""
    asked = ("export", home.root / "dog", "--out", tmp_path / "out", "--format", "ollama")

    refused = run(home, *asked)
    done = run(home, *asked, "--base", "tiny")

    assert refused.exit_code == 1
    assert "--base" in refused.stderr
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("ollama create dog -f ")
    assert (tmp_path / "out" / "Modelfile").is_file()


def test_what_cannot_be_exported_is_one_message(home: Home, tmp_path: Path) -> None:
    """Named, with exit code 1."""
    gguf = run(home, "export", "cat", "--out", tmp_path / "out", "--format", "gguf")
    base = run(home, "merge", "tiny", "--out", tmp_path / "out")

    assert (gguf.exit_code, base.exit_code) == (1, 1)
    assert "tokenizer cuts text in a way" in gguf.stderr
    assert "is the base itself" in base.stderr
    assert not (tmp_path / "out").exists()


def test_two_adapters_are_told_apart(home: Home) -> None:
    """By what their manifests say, and by what they add to each projection."""
    done = run(home, "diff", "cat", "dog")
    same = run(home, "diff", "cat", "cat", "--json")

    assert done.exit_code == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert rows["system_prompt"] == [SYSTEM, "汪"]
    assert "rank" not in rows
    assert set(PROJECTIONS) < rows.keys()
    found = json.loads(same.stdout)
    assert found["differences"] == {}
    assert found["weights"]["all"]["cosine"] == pytest.approx(1)


def test_recipes_are_compared_where_the_runs_are_here(home: Home) -> None:
    """Where they are not, that is said, and the rest is compared."""
    from adapters.manifest import RunRef
    from training.recipe import read_recipe
    from training.runs import RunStatus, RunStore

    registry, store = Registry(home.registry), RunStore(home.runs)
    base = read_base(home.bases / "tiny", "tiny")
    for name, rate in (("one", "0.1"), ("two", "0.2")):
        recipe = read_recipe("pocket", [f"training.learning_rate={rate}"])
        status = RunStatus("", "completed", name, "tiny", "d", 1, 0.0, 0.0, 1)
        made = store.create(status, recipe.toml(), {})
        source = home.root / "cat"
        manifest = msgspec.json.decode((source / MANIFEST_FILE).read_bytes(), type=Manifest)
        ref = RunRef(made.id, "d", "0" * 64, recipe.sha256, 1)
        (source / MANIFEST_FILE).write_bytes(msgspec.structs.replace(manifest, run=ref).encoded())
        registry.register(source, name, base)

    here = json.loads(run(home, "diff", "one", "two", "--json").stdout)["differences"]
    store.remove(store.get(registry.get("two").manifest.run.id))  # type: ignore[union-attr]
    gone = run(home, "diff", "one", "two")

    assert here["recipe training.learning_rate"] == [0.1, 0.2]
    assert "recipe lora.r" not in here
    assert "The run of 'two' is not here" in gone.stderr
