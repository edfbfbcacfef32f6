"""What the registry promises about names, blobs and readers, without failures of the disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters import entry as entry_module
from adapters import garbage
from adapters.base import Base
from adapters.entry import Record
from adapters.errors import (
    AdapterError,
    AdapterExists,
    AdapterInvalid,
    AdapterNotFound,
    RegistryCorrupt,
)
from adapters.intake import take_in
from adapters.layout import Layout
from adapters.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Evaluation,
    FileRef,
    Manifest,
    RunRef,
    SamplingDefaults,
    read_manifest,
)
from adapters.registry import Entry, Registry, Snapshot
from adapters.storage import exclusive_lock, is_in_use
from tests.tiny import random_adapter


def overwrite(path: Path, data: bytes) -> None:
    """Damage a read-only file."""
    path.parent.chmod(0o755)
    path.unlink()
    path.write_bytes(data)


def blobs(registry: Registry) -> set[str]:
    return {path.name for path in registry.root.glob("blobs/sha256/*/*")}


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds, time.time() - seconds))


class TestRenaming:
    def test_moves_the_name_and_nothing_else(self, registry: Registry, source: Path, base: Base):
        """The blob stays, pollers see a change, and the time of registration is kept."""
        entry = registry.register(source, "cat", base)
        before = registry.signature()

        renamed = registry.rename("cat", "kitten", base.name)

        assert (renamed.digest, renamed.created) == (entry.digest, entry.created)
        assert list(registry.snapshot().entries) == ["kitten"]
        assert registry.get("kitten") == renamed
        assert registry.signature() != before

    def test_never_takes_a_name_away_from_another(
        self, registry: Registry, source: Path, base: Base
    ):
        """Nor the base's; both adapters are as they were."""
        registry.register(source, "cat", base)
        registry.register(source, "dog", base)
        before = registry.snapshot()

        with pytest.raises(AdapterExists):
            registry.rename("cat", "dog", base.name)
        for name in ("Dog", "tiny", "a b", ""):
            with pytest.raises(AdapterError):
                registry.rename("cat", name, base.name)
        with pytest.raises(AdapterNotFound):
            registry.rename("none", "kitten", base.name)

        assert registry.snapshot() == before


class TestANameThatMayNotBeReplaced:
    def test_has_to_be_free(self, registry: Registry, source: Path, base: Base):
        """A taken one is refused before anything is copied, and stays what it is."""
        entry = registry.register(source, "poet", base, replaces=False)
        before = registry.signature()
        shutil.rmtree(source)

        with pytest.raises(AdapterExists, match="'poet' already"):
            registry.register(source, "poet", base, replaces=False)

        assert registry.signature() == before
        assert registry.get("poet") == entry

    def test_has_to_be_free_to_the_last_moment(
        self, registry: Registry, source: Path, base: Base, monkeypatch: pytest.MonkeyPatch
    ):
        """Whoever was quicker while the files were copied keeps it."""
        quicker: list[Entry] = []

        def slowly(*arguments: Any, **options: Any) -> Any:
            monkeypatch.undo()
            quicker.append(registry.register(source, "poet", base))
            return take_in(*arguments, **options)

        monkeypatch.setattr("adapters.registry.take_in", slowly)

        with pytest.raises(AdapterExists):
            registry.register(source, "poet", base, replaces=False)

        assert registry.get("poet") == quicker[0]


class TestARegisteredAdapter:
    def test_comes_back_as_it_went_in(self, registry: Registry, source: Path, base: Base):
        """The entry, its bytes and its manifest are those of the source."""
        before = int(time.time())
        entry = registry.register(source, "poet", base)

        assert registry.get("poet") == entry
        found = registry.snapshot()
        assert (found.entries, found.broken) == ({"poet": entry}, {})
        assert before <= entry.created <= time.time()
        assert entry.generation == 1
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            assert entry.read(file) == (source / file).read_bytes()
        assert entry.manifest == read_manifest(entry.path)
        assert entry.manifest.base == base.ref
        assert (entry.manifest.rank, entry.manifest.alpha) == (4, 8.0)
        assert entry.digest == entry.manifest.digest == entry.path.name

    def test_does_not_change_with_its_source(self, registry: Registry, source: Path, base: Base):
        """Editing or deleting the source directory afterwards changes nothing."""
        entry = registry.register(source, "poet", base)
        kept = entry.read(WEIGHTS_FILE)
        with (source / WEIGHTS_FILE).open("r+b") as file:  # in place: a link would follow
            file.write(b"\0" * 64)
        shutil.rmtree(source)

        assert entry.read(WEIGHTS_FILE) == kept
        assert registry.verify("poet") == []

    def test_lies_in_a_read_only_directory_of_three_files(
        self, registry: Registry, source: Path, base: Base
    ):
        """Only the known files are copied, and nobody may write to them by accident."""
        (source / "README.md").write_text("hello")
        (source / "chat_template.jinja").write_text("{{ 1 }}")
        (source / "checkpoint").mkdir()
        blob = registry.register(source, "poet", base).path

        modes = {path.name: path.stat().st_mode & 0o777 for path in blob.iterdir()}
        assert modes == dict.fromkeys((CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE), 0o444)
        assert blob.stat().st_mode & 0o777 == 0o555
        assert list((registry.root / "staging").iterdir()) == []

    def test_keeps_the_manifest_of_its_training(self, registry: Registry, source: Path, base: Base):
        """What training wrote into adapter.json is published, with the files filled in."""
        manifest = Manifest(
            base=base.ref,
            rank=4,
            alpha=8.0,
            target_modules=registry.register(source, "x", base).manifest.target_modules,
            system_prompt="你是一个诗人。",
            sampling=SamplingDefaults(max_tokens=100, temperature=0.3),
            run=RunRef("run-1", "poems", "a" * 64, "b" * 64, 300),
            metrics={"validation_nll": 3.25},
        )
        (source / MANIFEST_FILE).write_bytes(manifest.encoded())

        found = registry.register(source, "poet", base).manifest

        assert msgspec.structs.replace(found, files=()) == manifest
        assert [ref.name for ref in found.files] == [CONFIG_FILE, WEIGHTS_FILE]

    def test_can_be_registered_again_from_its_blob(
        self, registry: Registry, source: Path, base: Base, tmp_path: Path
    ):
        """A blob copied to another machine gives the same digest there."""
        entry = registry.register(source, "poet", base)
        other = Registry(tmp_path / "other").register(entry.path, "dichter", base)
        assert other.digest == entry.digest

    def test_has_the_digest_of_its_content(
        self, registry: Registry, source: Path, base: Base, tmp_path: Path
    ):
        """Same bytes, same digest and one blob, whatever the name; other bytes, another."""
        first = registry.register(source, "a", base)
        second = registry.register(source, "b", base)
        third = registry.register(random_adapter(tmp_path / "c", base.path, seed=1), "c", base)

        assert first.digest == second.digest != third.digest
        assert blobs(registry) == {first.digest, third.digest}


class TestNames:
    def test_a_registered_name_is_replaced(
        self, registry: Registry, source: Path, base: Base, tmp_path: Path
    ):
        """A name stands for the newest registration; the old blob stays for those who hold it."""
        old = registry.register(source, "poet", base)
        new = registry.register(random_adapter(tmp_path / "new", base.path, seed=1), "poet", base)

        assert registry.get("poet") == new
        assert (old.generation, new.generation) == (1, 2)
        assert old.read(WEIGHTS_FILE) == (source / WEIGHTS_FILE).read_bytes()

    def test_a_removed_name_is_gone(self, registry: Registry, source: Path, base: Base):
        """Its blob stays, and the error names what is left."""
        entry = registry.register(source, "poet", base)
        registry.register(source, "other", base)
        registry.remove("poet")

        with pytest.raises(AdapterNotFound, match=r"'poet'\. Registered: other\."):
            registry.get("poet")
        assert entry.read(CONFIG_FILE)

    @pytest.mark.parametrize("name", ["poet", "../escape", "a/b", "", "a\n"])
    def test_unknown_names_are_not_found(self, registry: Registry, name: str):
        """Every operation says so, also before there is a registry, and creates nothing."""
        for operation in (registry.get, registry.remove, registry.verify):
            with pytest.raises(AdapterNotFound, match="none yet"):
                operation(name)
        assert not registry.root.exists()

    @pytest.mark.parametrize(
        "name",
        [
            "",
            ".",
            "..",
            ".hidden",
            "-x",
            "a/b",
            "../x",
            "/etc",
            "a b",
            "a\n",
            "a\0",
            "ä",
            "x" * 129,
        ],
    )
    def test_a_name_that_could_be_another_path_is_refused(
        self, registry: Registry, source: Path, base: Base, name: str
    ):
        """Names match the pattern before they touch the disk."""
        with pytest.raises(AdapterInvalid) as caught:
            registry.register(source, name, base)
        rule = "a name is 1 to 128 of A-Z a-z 0-9 . _ - with a letter or digit first"
        assert caught.value.problems == (f"name {name!a} cannot be used; {rule}",)
        assert registry.snapshot().entries == {}

    def test_the_longest_name_is_accepted(self, registry: Registry, source: Path, base: Base):
        """128 characters, dots and dashes included."""
        name = "A.b_c-9" + "x" * 121
        assert registry.register(source, name, base).name == name

    def test_the_name_of_the_base_is_refused(self, registry: Registry, source: Path, base: Base):
        """It would hide the base; a difference in case does not help."""
        for name in ("tiny", "Tiny"):
            with pytest.raises(AdapterInvalid, match=f"name '{name}' is the base's own"):
                registry.register(source, name, base)

    def test_a_name_can_be_checked_ahead(self, registry: Registry, source: Path, base: Base):
        """By the rules that registration has, with the base as a name or a path."""
        registry.register(source, "Poet", base)
        registry.check_name("Poet", "Qwen/Qwen3-0.6B")
        refused = (("a/b", "tiny"), ("tiny", "tiny"), ("Tiny", "/bases/tiny"), ("poet", "tiny"))
        for name, of in refused:
            with pytest.raises(AdapterError, match=f"^The name '{name}' "):
                registry.check_name(name, of)

    def test_names_that_differ_in_case_alone_are_refused(
        self, registry: Registry, source: Path, base: Base
    ):
        """On some file systems they would be one file."""
        registry.register(source, "Poet", base)
        with pytest.raises(AdapterInvalid, match="only in case from the registered 'Poet'"):
            registry.register(source, "poet", base)
        registry.register(source, "Poet", base)


class TestPollers:
    def test_see_a_change_of_the_signature(self, registry: Registry, source: Path, base: Base):
        """Every change gives a signature not seen before; reading gives the same."""
        seen = [registry.signature()]
        for change in (
            lambda: registry.register(source, "a", base),
            lambda: registry.register(source, "a", base),
            lambda: registry.register(source, "b", base),
            lambda: registry.remove("a"),
        ):
            change()
            registry.snapshot()
            assert registry.signature() == registry.signature()
            seen.append(registry.signature())
        assert len(set(seen)) == len(seen)

    def test_find_an_empty_registry_where_there_is_none(self, registry: Registry):
        """Nothing is created by looking."""
        assert registry.signature() == (0, 0)
        assert registry.snapshot() == Snapshot({}, {})
        assert registry.collect_garbage() == []
        assert not registry.root.exists()

    def test_do_not_wait_for_writers(self, registry: Registry, source: Path, base: Base):
        """Readers take no lock."""
        entry = registry.register(source, "poet", base)
        with exclusive_lock(registry.root / ".lock"):
            assert registry.snapshot().entries == {"poet": entry}
            assert registry.get("poet") == entry

    def test_read_again_when_overtaken(
        self,
        registry: Registry,
        source: Path,
        base: Base,
        monkeypatch: pytest.MonkeyPatch,
    ):
        """A name replaced, and its old blob collected, between two reads is not broken."""
        registry.register(source, "poet", base)
        other = random_adapter(source.with_name("other"), base.path, seed=1)
        read_manifest = entry_module._read_manifest

        def overtaken(blob: Path, digest: str) -> Manifest:
            monkeypatch.setattr(entry_module, "_read_manifest", read_manifest)
            registry.register(other, "poet", base)
            registry.collect_garbage(0)
            return read_manifest(blob, digest)

        monkeypatch.setattr(entry_module, "_read_manifest", overtaken)
        snapshot = registry.snapshot()

        assert snapshot.broken == {}
        assert snapshot.entries["poet"].read(WEIGHTS_FILE) == (other / WEIGHTS_FILE).read_bytes()

    @pytest.mark.parametrize("left", [b"nonsense", b"", b"1"])
    def test_survive_a_lost_counter(
        self, registry: Registry, source: Path, base: Base, left: bytes
    ):
        """Without GENERATION, or where that is torn, counting goes on from the records."""
        for name in "abcdefghij":
            registry.register(source, name, base)
        (registry.root / "GENERATION").write_bytes(left)
        assert registry.register(source, "k", base).generation == 11

    def test_read_again_only_what_has_changed(
        self, registry: Registry, source: Path, base: Base, monkeypatch: pytest.MonkeyPatch
    ):
        """However many there are, who polls has the others from the last time, as they were."""
        other = random_adapter(source.with_name("other"), base.path, seed=1)
        for name in ("damaged", "kept", "removed", "replaced"):
            registry.register(source, name, base)
        registry.register(other, "measured", base)
        first = registry.snapshot()
        evaluation = Evaluation("d", "0" * 64, "test", 1, 0, "greedy", 1, {"perplexity": 3.0})
        registry.record_evaluation(first.entries["measured"], evaluation)
        registry.register(random_adapter(other, base.path, seed=2), "replaced", base)
        registry.register(source, "new", base)
        registry.remove("removed")
        (registry.root / "names" / "damaged.json").write_bytes(b"{")
        read: list[str] = []

        def noted(layout: Layout, name: str) -> Entry:
            read.append(name)
            return entry_module.read_entry(layout, name)

        monkeypatch.setattr("adapters.registry.read_entry", noted)
        second = registry.snapshot(first)
        assert read == ["measured", "new", "replaced"]
        assert second == registry.snapshot()
        assert second.entries["kept"] is first.entries["kept"]

    def test_are_not_all_read_to_count_the_next_change(
        self, registry: Registry, source: Path, base: Base, monkeypatch: pytest.MonkeyPatch
    ):
        """Only those that are as young as the signal, where a change may lack its own."""
        for name in "abc":
            registry.register(source, name, base)
        for name in "ab":
            age(registry.root / "names" / f"{name}.json", 60)
        read: list[str] = []

        def noted(layout: Layout, name: str) -> Record:
            read.append(name)
            return entry_module.read_record(layout, name)

        monkeypatch.setattr("adapters.registry.read_record", noted)
        assert registry.register(source, "d", base).generation == 4
        assert not set(read) & set("ab")

    def test_are_told_when_the_registry_cannot_be_listed(self, registry: Registry):
        """A file in the place of the directory is an expected error, not an empty registry."""
        registry.root.mkdir()
        (registry.root / "names").write_text("")
        with pytest.raises(AdapterError, match="cannot be read"):
            registry.snapshot()


class TestBrokenNames:
    """One broken name gives a reason and hurts no other."""

    @pytest.fixture
    def entry(self, registry: Registry, source: Path, base: Base) -> Entry:
        registry.register(source, "whole", base)
        return registry.register(
            random_adapter(source.with_name("second"), base.path, seed=1), "poet", base
        )

    def reason(self, registry: Registry, name: str = "poet") -> str:
        snapshot = registry.snapshot()
        assert list(snapshot.entries) == ["whole"]
        assert list(snapshot.broken) == [name]
        assert registry.verify("whole") == []
        return snapshot.broken[name]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "cannot be understood (Input data was truncated)"),
            (b"\xff\xfe", "cannot be understood (JSON is malformed: invalid character (byte 0))"),
            (b"{}", "cannot be understood (Object missing required field `name`)"),
            (b"[" * 100_000, "has 100,000 bytes; at most 65,536 are accepted"),
            (b"[" * 60_000, "cannot be understood (Expected `object`, got `array`)"),
        ],
    )
    def test_a_record_that_is_no_record(
        self, registry: Registry, entry: Entry, content: bytes, reason: str
    ):
        """The reason names the record and what is wrong with it."""
        (registry.root / "names" / "poet.json").write_bytes(content)
        assert self.reason(registry) == f"its record poet.json {reason}"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("digest", "../../../../etc"),
            ("digest", "A" * 64),
            ("digest", "a" * 64 + "\n"),
            ("generation", 0),
            ("created", "now"),
            ("format", "lccc-name/2"),
            ("extra", 1),
        ],
    )
    def test_a_record_with_a_field_out_of_range(
        self, registry: Registry, entry: Entry, field: str, value: object
    ):
        """Records are read strictly; no digest of another form becomes a path."""
        path = registry.root / "names" / "poet.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
        reason = self.reason(registry)
        assert reason.startswith("its record poet.json cannot be understood")
        assert f"`{field}`" in reason or f"`$.{field}`" in reason

    def test_a_record_under_another_name(self, registry: Registry, entry: Entry):
        """A record copied by hand does not make a second name."""
        names = registry.root / "names"
        (names / "poet.json").rename(names / "copy.json")
        assert self.reason(registry, "copy") == "its record copy.json is that of 'poet'"

    def test_a_record_that_is_a_link_or_a_pipe(self, registry: Registry, entry: Entry):
        """Neither is followed nor waited for."""
        path = registry.root / "names" / "poet.json"
        path.unlink()
        path.symlink_to("/etc/passwd")
        assert "symbolic link" in self.reason(registry)
        path.unlink()
        os.mkfifo(path)
        assert "not a regular file" in self.reason(registry)

    def test_a_file_that_is_called_as_no_name_can_be(self, registry: Registry, entry: Entry):
        """It is shown rather than ignored."""
        registry.remove("poet")
        (registry.root / "names" / "a b.json").write_text("{}")
        assert "no valid name" in self.reason(registry, "a b")

    def test_a_blob_that_is_gone(self, registry: Registry, entry: Entry):
        """The reason names the file that is missing."""
        entry.path.chmod(0o755)
        shutil.rmtree(entry.path)
        assert self.reason(registry) == "adapter.json is missing"

    def test_a_blob_with_a_changed_manifest(self, registry: Registry, entry: Entry):
        """The manifest is checked against the digest on every reading."""
        changed = msgspec.structs.replace(entry.manifest, system_prompt="be evil")
        overwrite(entry.path / MANIFEST_FILE, changed.encoded())
        assert self.reason(registry) == "adapter.json is not what was registered"

    def test_a_blob_with_a_shortened_file(self, registry: Registry, entry: Entry):
        """A lost tail is seen without hashing."""
        overwrite(entry.path / WEIGHTS_FILE, entry.read(WEIGHTS_FILE)[:-1])
        assert self.reason(registry) == (
            "adapter_model.safetensors has 42,407 bytes, registered were 42,408"
        )

    def test_a_blob_that_was_made_by_hand(self, registry: Registry, entry: Entry):
        """A manifest may only list the adapter's own two files."""
        files = (FileRef("../../../../etc/passwd", 1, "0" * 64),)
        manifest = msgspec.structs.replace(entry.manifest, files=files)
        blob = registry.root / "blobs" / "sha256" / manifest.digest[:2] / manifest.digest
        blob.mkdir(parents=True)
        (blob / MANIFEST_FILE).write_bytes(manifest.encoded())
        path = registry.root / "names" / "poet.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": manifest.digest}))
        assert self.reason(registry) == "adapter.json does not list the adapter's two files"

    def test_get_says_what_to_do(self, registry: Registry, entry: Entry):
        """Broken is not the same as unknown."""
        (registry.root / "names" / "poet.json").write_bytes(b"{}")
        with pytest.raises(RegistryCorrupt, match=r"'poet' is registered but broken: .*again"):
            registry.get("poet")
        assert registry.verify("poet") == [registry.snapshot().broken["poet"]]

    def test_they_can_be_removed(self, registry: Registry, entry: Entry):
        """What cannot be read can be forgotten."""
        (registry.root / "names" / "poet.json").write_bytes(b"{}")
        registry.remove("poet")
        assert registry.snapshot().broken == {}

    def test_they_can_be_registered_again(
        self, registry: Registry, entry: Entry, source: Path, base: Base
    ):
        """A damaged blob is replaced by whole bytes, although its digest is there already."""
        good = entry.read(WEIGHTS_FILE)
        overwrite(entry.path / WEIGHTS_FILE, good[:-1] + b"\0")
        assert registry.verify("poet") == ["adapter_model.safetensors is not what was registered"]
        with pytest.raises(RegistryCorrupt, match=r"adapter_model\.safetensors is not what"):
            entry.read(WEIGHTS_FILE)

        again = registry.register(source.with_name("second"), "poet", base)

        assert again.digest == entry.digest
        assert registry.verify("poet") == []
        assert again.read(WEIGHTS_FILE) == good


class TestGarbage:
    def test_only_what_no_name_needs_is_deleted(
        self, registry: Registry, source: Path, base: Base, tmp_path: Path
    ):
        """A blob with two names lives until both are gone."""
        shared = registry.register(source, "a", base)
        registry.register(source, "b", base)
        other = registry.register(random_adapter(tmp_path / "c", base.path, seed=1), "c", base)
        registry.remove("a")
        registry.remove("c")

        assert registry.collect_garbage(0) == [other.digest]
        assert blobs(registry) == {shared.digest}
        registry.remove("b")
        assert registry.collect_garbage(0) == [shared.digest]
        assert blobs(registry) == set()

    def test_the_grace_begins_when_a_blob_loses_its_name(
        self, registry: Registry, source: Path, base: Base, tmp_path: Path
    ):
        """A server that is just loading an old adapter is not robbed of its files."""
        replaced = registry.register(source, "a", base)
        removed = registry.register(random_adapter(tmp_path / "b", base.path, seed=1), "b", base)
        for entry in (replaced, removed):
            age(entry.path, seconds=7200)
        registry.register(random_adapter(tmp_path / "c", base.path, seed=2), "a", base)
        registry.remove("b")

        assert registry.collect_garbage(3600) == []
        for entry in (replaced, removed):
            age(entry.path, seconds=3601)
        assert set(registry.collect_garbage(3600)) == {replaced.digest, removed.digest}

    def test_a_blob_of_a_broken_record_is_kept(self, registry: Registry, source: Path, base: Base):
        """As long as the digest can be read in the record, somebody may repair it."""
        entry = registry.register(source, "poet", base)
        (registry.root / "names" / "poet.json").write_text(f'{{"digest": "{entry.digest}"')
        assert registry.collect_garbage(0) == []
        assert entry.read(CONFIG_FILE)

    def test_remains_of_dead_writers_are_swept(
        self, registry: Registry, source: Path, base: Base, tmp_path: Path
    ):
        """Old staging and temporary files go; the young, the foreign and links' targets stay."""
        registry.register(source, "poet", base)
        staging = registry.root / "staging"
        (staging / "dead").mkdir()
        (staging / "dead" / WEIGHTS_FILE).write_bytes(b"half")
        (staging / "young").mkdir()
        (tmp_path / "mine").mkdir()
        (staging / "link").symlink_to(tmp_path / "mine")
        os.utime(staging / "link", (0, 0), follow_symlinks=False)
        age(staging / "dead", seconds=7200)
        (registry.root / "names" / ".poet.json.123.tmp").write_bytes(b"half")
        (registry.root / "blobs" / "sha256" / "notes").mkdir()

        assert registry.collect_garbage() == []

        assert [path.name for path in staging.iterdir()] == ["young"]
        assert [path.name for path in (registry.root / "names").iterdir()] == ["poet.json"]
        assert (tmp_path / "mine").is_dir()
        assert (registry.root / "blobs" / "sha256" / "notes").is_dir()

    def test_a_writer_may_tidy_up_meanwhile(
        self, registry: Registry, source: Path, base: Base, monkeypatch: pytest.MonkeyPatch
    ):
        """Staging that disappears while it is looked at is nobody's failure."""
        registry.register(source, "poet", base)
        staging = registry.root / "staging" / "done"
        staging.mkdir()

        def gone_before(path: Path) -> bool:
            path.rmdir()
            return is_in_use(path)

        monkeypatch.setattr(garbage, "is_in_use", gone_before)
        assert registry.collect_garbage(0) == []
        assert not staging.exists()


def test_a_registry_that_cannot_be_written_is_an_expected_error(
    tmp_path: Path, source: Path, base: Base
):
    """The message names the place and says what to do."""
    (tmp_path / "file").write_text("")
    registry = Registry(tmp_path / "file" / "registry")
    with pytest.raises(AdapterError, match=r"could not be written: .*fix the permissions"):
        registry.register(source, "poet", base)


def test_torch_stays_out():
    """Registry and validation work in processes that never load torch."""
    code = "import sys, adapters.registry, adapters.validate; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout == "False\n"
