"""Bases: where they are found, what is refused and why, and what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.base import Architecture, find_base, locate_base, read_architecture, read_base
from adapters.errors import BaseInvalid, BaseNotFound
from adapters.home import Home
from tests.tiny import tiny_base

INDEX = "model.safetensors.index.json"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty; the snapshot that it would keep of ``org/model``."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    repository = cache / "models--org--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    return repository / "snapshots" / "abc"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "models" / "tiny")


def shard(path: Path) -> Path:
    """Make the base one of two shards, both there."""
    weights = path / "model.safetensors"
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (path / names[1]).write_bytes(weights.read_bytes())
    weights.rename(path / names[0])
    mapping = {"model.norm.weight": names[0], "model.embed_tokens.weight": names[1]}
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": mapping}))
    return path


def edit(path: Path, **fields: Any) -> None:
    """Change fields of a JSON file; ``None`` removes one."""
    found = json.loads(path.read_bytes()) | fields
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def test_parameters_are_those_of_the_published_model() -> None:
    """Qwen3-0.6B has 596 million, with its head tied."""
    shape = Architecture("qwen3", 1024, 3072, 28, 16, 8, 128, 151_936, 40_960)
    assert shape.parameters == pytest.approx(596e6, rel=0.001)


class TestFind:
    def test_home_goes_before_a_directory_before_the_hub(
        self, home: Home, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By one name, all three; each is found once the one before is gone."""
        monkeypatch.chdir(tmp_path)
        local, given = home.bases / "org--model", tmp_path / "org" / "model"
        for place in (local, given, hub):
            tiny_base(place)

        for place, name in ((local, "org/model"), (given, "model"), (hub, "org/model")):
            found = find_base("org/model", home)
            assert (found.path, found.name, found.ref.name) == (place, name, name)
            (place / "config.json").unlink()
        with pytest.raises(BaseNotFound) as told:
            find_base("org/model", home)
        assert told.value.looked_in == (local, Path("org/model"))

    def test_a_directory_is_called_by_its_last_part(self, home: Home, path: Path) -> None:
        """Its full path is no name for an adapter's manifest."""
        assert find_base(str(path), home).name == "tiny"
        assert locate_base(str(path), home) == path

    def test_a_plain_name_is_never_looked_for_in_the_hub(self, home: Home) -> None:
        """Only `org/model` can be there."""
        with pytest.raises(BaseNotFound) as told:
            find_base("nobody", home)
        assert told.value.looked_in == (home.bases / "nobody",)

    @pytest.mark.parametrize(
        "missing", ["model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    )
    def test_an_interrupted_download_counts_as_absent(
        self, home: Home, hub: Path, missing: str
    ) -> None:
        """So that the download is taken up again instead of refused for ever."""
        tiny_base(hub)
        (hub / "chat_template.jinja").unlink(missing_ok=True)
        edit(hub / "tokenizer_config.json", chat_template="{{ messages }}")
        assert locate_base("org/model", home) == hub

        (hub / missing).unlink()

        with pytest.raises(BaseNotFound):
            locate_base("org/model", home)

    def test_a_download_without_every_shard_counts_as_absent(self, home: Home, hub: Path) -> None:
        """The first shard alone is no checkpoint."""
        shard(tiny_base(hub))
        assert locate_base("org/model", home) == hub

        (hub / "model-00002-of-00002.safetensors").unlink()

        with pytest.raises(BaseNotFound):
            locate_base("org/model", home)

    def test_a_link_of_the_cache_to_nowhere_is_no_file(self, home: Home, hub: Path) -> None:
        """Blobs can be deleted under the snapshot that links to them."""
        tiny_base(hub)
        (hub / "model.safetensors").unlink()
        (hub / "model.safetensors").symlink_to(hub / "gone")

        with pytest.raises(BaseNotFound):
            locate_base("org/model", home)


def _unlink(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def _config(**fields: Any) -> Callable[[Path], None]:
    return lambda path: edit(path / "config.json", **fields)


def _write(name: str, text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        (path / name).write_text(text)

    return write


def _no_template(path: Path) -> None:
    (path / "chat_template.jinja").unlink(missing_ok=True)
    edit(path / "tokenizer_config.json", chat_template=None)


def _lost_shard(path: Path) -> None:
    (shard(path) / "model-00002-of-00002.safetensors").unlink()


def _bad_index(path: Path) -> None:
    (shard(path) / INDEX).write_text('{"weight_map": []}')


class TestRefusals:
    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (_unlink("config.json"), "config.json is missing."),
            (_write("config.json", "{"), "config.json is not valid JSON"),
            (_write("config.json", "[]"), "config.json should hold a JSON object."),
            (_config(model_type="gpt2"), "is a 'gpt2' model; supported are: qwen3, qwen2, llama."),
            (_config(hidden_size=None), "config.json: the field 'hidden_size' is missing."),
            (_config(vocab_size="x"), "the field 'vocab_size' should be a positive integer, not"),
            (_config(num_attention_heads=0), "'num_attention_heads' should be a positive integer"),
            (_config(num_hidden_layers=True), "'num_hidden_layers' should be a positive integer"),
            (_config(head_dim=-1), "the field 'head_dim' should be a positive integer, not -1."),
            (_unlink("model.safetensors"), "holds no *.safetensors weights."),
            (_lost_shard, "is incomplete: model-00002-of-00002.safetensors is missing, which"),
            (_bad_index, f"{INDEX}: the field 'weight_map' should be an object."),
            (_unlink("tokenizer.json"), "holds no tokenizer.json"),
            (_no_template, "has no chat template; use an instruct or chat checkpoint."),
        ],
    )
    def test_each_names_the_file_or_field(
        self, path: Path, damage: Callable[[Path], None], said: str
    ) -> None:
        """And the directory it is about."""
        damage(path)

        with pytest.raises(BaseInvalid) as told:
            read_base(path, "tiny")

        assert said in str(told.value)
        assert str(path) in str(told.value)

    def test_a_template_needs_a_file_to_be_in(self, path: Path) -> None:
        """Neither place is there."""
        (path / "chat_template.jinja").unlink(missing_ok=True)
        (path / "tokenizer_config.json").unlink()

        with pytest.raises(BaseInvalid, match=r"tokenizer_config\.json is missing\."):
            read_base(path, "tiny")

    def test_a_left_over_index_beside_one_file_does_no_harm(self, path: Path) -> None:
        """The whole checkpoint is in ``model.safetensors``, as transformers would load it."""
        (path / INDEX).write_text('{"weight_map": {"a": "gone.safetensors"}}')

        assert read_base(path, "tiny").path == path

    def test_sizes_that_follow_from_others_may_be_left_out(self, path: Path) -> None:
        """Keys as many as heads, each of hidden size over heads."""
        edit(path / "config.json", num_key_value_heads=None, head_dim=None)

        found = read_architecture(path)

        assert (found.heads, found.kv_heads, found.head_dim) == (4, 4, 16)


class TestReference:
    def test_it_is_the_content_and_not_the_place(self, path: Path, tmp_path: Path) -> None:
        """A copy elsewhere is the same base."""
        assert read_base(tiny_base(tmp_path / "copy"), "tiny").ref == read_base(path, "tiny").ref

    @pytest.mark.parametrize(
        ("file", "field"),
        [
            ("model.safetensors", "weights_sha256"),
            ("tokenizer.json", "tokenizer_sha256"),
            ("chat_template.jinja", "template_sha256"),
        ],
    )
    def test_it_changes_with_each_of_its_files(self, path: Path, file: str, field: str) -> None:
        """And only in that part."""
        before = msgspec.to_builtins(read_base(path, "tiny").ref)
        with (path / file).open("ab") as changed:
            changed.write(b" ")

        after = msgspec.to_builtins(read_base(path, "tiny").ref)

        assert {key for key in before if before[key] != after[key]} == {field}

    def test_a_changed_second_shard_is_another_base(self, path: Path) -> None:
        """Every shard counts."""
        before = read_base(shard(path), "tiny").ref.weights_sha256
        with (path / "model-00002-of-00002.safetensors").open("ab") as changed:
            changed.write(b" ")

        assert read_base(path, "tiny").ref.weights_sha256 != before
