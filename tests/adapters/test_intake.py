"""What may be taken in from a directory nobody vouches for; a refusal leaves nothing behind."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path

import msgspec
import pytest

from adapters.base import Base
from adapters.errors import AdapterInvalid
from adapters.manifest import CONFIG_FILE, MANIFEST_FILE, PROJECTIONS, WEIGHTS_FILE, Manifest
from adapters.registry import Registry, Snapshot
from tests.adapters.conftest import edit_config, edit_tensors
from tests.tiny import random_adapter, tiny_base


def refused(registry: Registry, source: Path, base: Base, name: str = "poet") -> list[str]:
    """The problems, having checked that nothing was left behind."""
    before = registry.signature()
    with pytest.raises(AdapterInvalid) as caught:
        registry.register(source, name, base)
    assert registry.snapshot() == Snapshot({}, {})
    assert registry.signature()[0] == before[0]
    assert not list(registry.root.glob("blobs/sha256/*/*"))
    assert not list((registry.root / "staging").iterdir())
    for problem in caught.value.problems:
        assert f"\n  - {problem}" in str(caught.value)
    return list(caught.value.problems)


@pytest.mark.parametrize("family", ["qwen3", "qwen2", "llama"])
@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks, not we
)
def test_an_adapter_saved_by_peft_is_registered(tmp_path: Path, registry: Registry, family: str):
    """What get_peft_model(...).save_pretrained writes is accepted as it is."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from adapters.base import read_base

    path = tiny_base(tmp_path / "base", family)
    lora = LoraConfig(
        r=4, lora_alpha=8, target_modules=["v_proj", "down_proj", "q_proj"], task_type="CAUSAL_LM"
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(path), lora).save_pretrained(
        tmp_path / "saved"
    )

    entry = registry.register(tmp_path / "saved", "poet", read_base(path, "tiny"))

    assert (entry.manifest.rank, entry.manifest.alpha) == (4, 8.0)
    assert entry.manifest.target_modules == ("q_proj", "v_proj", "down_proj")
    assert entry.manifest.system_prompt is None
    assert entry.manifest.run is None
    assert registry.verify("poet") == []


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_what_peft_makes_of_all_linear_is_registered(tmp_path: Path, registry: Registry):
    """Paths of modules, or with many layers their names; a pattern may stand in their place."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from adapters.base import read_base

    path = tiny_base(tmp_path / "base")
    base = read_base(path, "tiny")
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    saved = tmp_path / "saved"
    get_peft_model(AutoModelForCausalLM.from_pretrained(path), lora).save_pretrained(saved)
    assert registry.register(saved, "poet", base).manifest.target_modules == PROJECTIONS

    edit_config(saved, target_modules=rf".*\.({'|'.join(PROJECTIONS)})")
    assert registry.register(saved, "poet", base).manifest.target_modules == PROJECTIONS

    edit_config(saved, target_modules=r".*\.(q_proj|v_proj)")
    with pytest.raises(AdapterInvalid, match="unexpected: base_model"):
        registry.register(saved, "poet", base)


class TestFiles:
    @pytest.mark.parametrize("file", [CONFIG_FILE, WEIGHTS_FILE])
    def test_a_missing_file_is_named(self, registry: Registry, source: Path, base: Base, file: str):
        """The other file is still checked."""
        (source / file).unlink()
        other = CONFIG_FILE if file == WEIGHTS_FILE else WEIGHTS_FILE
        if other == CONFIG_FILE:
            edit_config(source, use_dora=True)
        else:
            edit_tensors(source, lambda tensors: next(iter(tensors.values())).fill_(math.inf))
        problems = refused(registry, source, base)
        assert problems[0] == f"{file} is missing"
        assert len(problems) == 2
        assert problems[1].startswith(other)

    def test_a_pickle_is_refused_without_being_opened(
        self, registry: Registry, source: Path, base: Base, tmp_path: Path
    ):
        """It could run code; the advice says how to save instead."""

        class Bomb:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.mkdir, (str(tmp_path / "exploded"),)

        (source / WEIGHTS_FILE).unlink()
        (source / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))
        [problem] = refused(registry, source, base)
        assert problem == (
            "adapter_model.bin is a pickle, which can run code and is never opened; save the "
            "adapter as adapter_model.safetensors (PEFT's safe_serialization=True)"
        )
        assert not (tmp_path / "exploded").exists()

    def test_a_pickle_called_safetensors_is_refused(
        self, registry: Registry, source: Path, base: Base
    ):
        """The name does not decide."""
        (source / WEIGHTS_FILE).write_bytes(pickle.dumps({"a": [1.0] * 100}))
        [problem] = refused(registry, source, base)
        assert problem.startswith("adapter_model.safetensors: declares a header of")

    @pytest.mark.parametrize("file", [CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE])
    def test_links_pipes_and_directories_are_refused(
        self, registry: Registry, source: Path, base: Base, tmp_path: Path, file: str
    ):
        """None is followed, waited for or listed, not even a link to a good file."""
        path, target = source / file, tmp_path / "target"
        if path.exists():
            path.rename(target)
        else:
            target.write_text("{}")
        path.symlink_to(target)
        assert refused(registry, source, base) == [
            f"{file} is a symbolic link; copy the directory with `cp -rL`"
        ]
        path.unlink()
        os.mkfifo(path)
        assert refused(registry, source, base) == [f"{file} is not a regular file"]
        path.unlink()
        path.mkdir()
        assert refused(registry, source, base) == [f"{file} is not a regular file"]

    @pytest.mark.parametrize(
        ("file", "size", "limit"),
        [
            (CONFIG_FILE, (1 << 20) + 1, 1 << 20),
            (MANIFEST_FILE, 1 << 40, 1 << 20),
            (WEIGHTS_FILE, 1 << 40, 4 << 30),
        ],
    )
    def test_a_file_that_is_too_large_is_not_copied(
        self, registry: Registry, source: Path, base: Base, file: str, size: int, limit: int
    ):
        """Its size is looked at first; these are sparse, copying them would fill the disk."""
        with (source / file).open("ab") as sparse:
            sparse.truncate(size)
        assert refused(registry, source, base) == [
            f"{file} has {size:,} bytes; at most {limit:,} are accepted"
        ]

    def test_a_source_that_is_no_directory_is_refused(
        self, registry: Registry, base: Base, tmp_path: Path
    ):
        """Archives are not unpacked."""
        archive = tmp_path / "adapter.tar.gz"
        assert refused(registry, archive, base) == [f"{archive} does not exist"]
        archive.write_bytes(b"\x1f\x8b")
        assert refused(registry, archive, base) == [
            f"{archive} is not a directory; unpack it first"
        ]

    def test_a_linked_directory_is_followed(
        self, registry: Registry, source: Path, base: Base, tmp_path: Path
    ):
        """The user named it; only what lies inside is from a stranger."""
        (tmp_path / "link").symlink_to(source)
        assert registry.register(tmp_path / "link", "poet", base)


class TestManifest:
    def manifest(self, base: Base) -> Manifest:
        return Manifest(base=base.ref, rank=4, alpha=8.0, target_modules=PROJECTIONS)

    def test_an_adapter_of_another_base_is_refused(
        self, registry: Registry, source: Path, base: Base, tmp_path: Path
    ):
        """The same shapes and the same name do not make the same base."""
        from adapters.base import read_base

        twin = read_base(tiny_base(tmp_path / "twin", seed=1), "tiny")
        (source / MANIFEST_FILE).write_bytes(self.manifest(base).encoded())
        [problem] = refused(registry, source, twin)
        assert problem.startswith("adapter.json: base.weights_sha256: trained on 'tiny' with")

    def test_assume_base_does_not_overrule_it(self, registry: Registry, source: Path, base: Base):
        """The user's word counts only where there is no hash."""
        ref = msgspec.structs.replace(base.ref, template_sha256="0" * 64)
        manifest = msgspec.structs.replace(self.manifest(base), base=ref)
        (source / MANIFEST_FILE).write_bytes(manifest.encoded())
        with pytest.raises(AdapterInvalid, match="another chat template"):
            registry.register(source, "poet", base, assume_base=True)

    def test_it_makes_the_name_in_the_config_irrelevant(
        self, registry: Registry, source: Path, base: Base
    ):
        """A base that moved is still the same base."""
        edit_config(source, base_model_name_or_path="/gone/elsewhere")
        (source / MANIFEST_FILE).write_bytes(self.manifest(base).encoded())
        assert registry.register(source, "poet", base).manifest.base == base.ref

    @pytest.mark.parametrize(
        "content", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"format": "lccc-adapter/9"}']
    )
    def test_one_that_is_none_is_refused(
        self, registry: Registry, source: Path, base: Base, content: bytes
    ):
        """Rather than ignored: it would have said what the adapter needs."""
        (source / MANIFEST_FILE).write_bytes(content)
        [problem] = refused(registry, source, base)
        assert problem.startswith("adapter.json is no manifest of this project (")
        assert problem.endswith("); delete it to register the adapter as one trained elsewhere")


class TestTrainedElsewhere:
    def test_another_base_name_needs_assume_base(
        self, registry: Registry, source: Path, base: Base
    ):
        """With the user's word it is registered for the base given."""
        edit_config(source, base_model_name_or_path="someone/else")
        [problem] = refused(registry, source, base)
        assert "'someone/else', not 'tiny'" in problem
        assert "--assume-base" in problem
        entry = registry.register(source, "poet", base, assume_base=True)
        assert entry.manifest.base == base.ref

    def test_assume_base_does_not_overrule_shapes(
        self, registry: Registry, tmp_path: Path, base: Base
    ):
        """An adapter of a wider base is still refused."""
        wide = tiny_base(tmp_path / "wide", hidden_size=96)
        source = random_adapter(tmp_path / "a", wide, base_name="someone/else")
        with pytest.raises(AdapterInvalid, match="14 tensors misshapen"):
            registry.register(source, "poet", base, assume_base=True)


def test_every_problem_is_reported_at_once(registry: Registry, source: Path, base: Base):
    """Name, config, origin, tensors and values in one answer."""
    edit_config(source, use_dora=True, bias="all", base_model_name_or_path="someone/else")

    def spoil(tensors: dict[str, object]) -> None:
        names = sorted(tensors)
        tensors.pop(names[0])
        tensors[names[1]].fill_(math.nan)

    edit_tensors(source, spoil)
    problems = refused(registry, source, base, name="a/b")
    beginnings = [
        "name 'a/b'",
        "adapter_config.json: bias",
        "adapter_config.json: use_dora",
        "adapter_model.safetensors: 1 tensor missing",
        "adapter_model.safetensors: 1 tensor with NaN",
        "adapter_config.json: base_model_name_or_path",
    ]
    assert len(problems) == len(beginnings)
    for problem, beginning in zip(problems, beginnings, strict=True):
        assert problem.startswith(beginning)


@pytest.mark.parametrize("file", [CONFIG_FILE, WEIGHTS_FILE])
def test_what_is_published_is_what_was_checked(
    registry: Registry,
    source: Path,
    base: Base,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
):
    """A source swapped for a bad one after the copy, before the check, changes nothing."""
    from adapters import intake

    good = (source / file).read_bytes()
    check_config = intake.check_config

    def swap_and_check(path: Path) -> object:
        (source / file).write_bytes(b"evil")
        return check_config(path)

    monkeypatch.setattr(intake, "check_config", swap_and_check)
    entry = registry.register(source, "poet", base)
    assert (source / file).read_bytes() == b"evil"
    assert entry.read(file) == good


def test_a_header_of_a_million_tensors_is_refused_unread(
    registry: Registry, source: Path, base: Base
):
    """A header beyond the limit is refused by its length; parsing it would take seconds."""
    entry = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    header = b"{" + b"".join(entry % i for i in range(400_000))[:-1] + b"}"
    (source / WEIGHTS_FILE).write_bytes(len(header).to_bytes(8, "little") + header)
    declared = f"declares a header of {len(header):,} bytes; at most 1,048,576 are read"
    assert refused(registry, source, base) == [f"adapter_model.safetensors: {declared}"]
