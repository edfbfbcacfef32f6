"""`lccc-admin adapters`, as a person or a pipe sees it: whole outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.base import Base, read_base
from adapters.errors import AdapterInvalid, AdapterNotFound, BaseNotFound, RegistryCorrupt
from adapters.home import Home
from adapters.manifest import (
    MANIFEST_FILE,
    PROJECTIONS,
    WEIGHTS_FILE,
    Manifest,
    RunRef,
    SamplingDefaults,
)
from adapters.registry import Registry
from admin.commands.adapters import adapters
from admin.context import AdminContext
from admin.output import Output
from tests.tiny import random_adapter, tiny_base

NOTHING_YET = """\
No adapters yet.
  lccc-admin train --data DATASET --name NAME               trains one
  lccc-admin adapters register DIR --name NAME --base BASE  takes one from elsewhere
"""

Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    home = tmp_path_factory.mktemp("home")
    return read_base(tiny_base(home / "bases" / "tiny"), "tiny")


@pytest.fixture
def home(tmp_path: Path, base: Base) -> Home:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "bases").symlink_to(base.path.parent)
    return Home(tmp_path / "home")


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home.registry)


@pytest.fixture
def invoke(home: Home) -> Invoke:
    def run(*arguments: str, answer: str | None = None) -> Result:
        context = AdminContext(home=home, output=Output())
        return CliRunner().invoke(adapters, arguments, input=answer, obj=context)

    return run


@pytest.fixture
def elsewhere(tmp_path: Path, base: Base) -> Path:
    return random_adapter(tmp_path / "elsewhere", base.path, base_name="tiny")


@pytest.fixture
def trained(tmp_path: Path, base: Base) -> Path:
    """An adapter as a run of this project leaves it."""
    path = random_adapter(tmp_path / "trained", base.path, seed=1, alpha=16.0)
    manifest = Manifest(
        base=base.ref,
        rank=4,
        alpha=16.0,
        target_modules=PROJECTIONS,
        system_prompt="你是一个诗人。\n\x1b[2J",
        sampling=SamplingDefaults(max_tokens=100, temperature=0.3),
        run=RunRef("20260301-poet", "poems", "a" * 64, "b" * 64, 300),
        metrics={"validation_nll": 3.25678},
    )
    (path / MANIFEST_FILE).write_bytes(manifest.encoded())
    return path


def local(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s).astimezone().strftime("%Y-%m-%d %H:%M")


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


class TestRename:
    def test_it_is_served_as_the_new_name(
        self, invoke: Invoke, registry: Registry, elsewhere: Path, base: Base
    ):
        """And says so; the old name is unknown from then on."""
        registry.register(elsewhere, "cat", base, assume_base=True)

        result = invoke("rename", "cat", "kitten")

        assert result.exit_code == 0
        assert "'cat' is now 'kitten'" in result.stderr
        assert list(registry.snapshot().entries) == ["kitten"]


class TestList:
    def test_an_empty_registry_says_how_to_get_an_adapter(self, invoke: Invoke):
        """To the person; the pipe gets nothing, or empty JSON."""
        result = invoke("list")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", NOTHING_YET)
        assert json.loads(invoke("list", "--json").stdout) == {"adapters": [], "broken": {}}

    def test_each_adapter_is_a_row(
        self, invoke: Invoke, registry: Registry, base: Base, elsewhere: Path, trained: Path
    ):
        """What is unknown of one trained elsewhere is a dash."""
        poet = registry.register(trained, "poet", base)
        other = registry.register(elsewhere, "a", base)
        result = invoke("list")
        when = local(poet.created)
        assert result.stderr == ""
        assert lines(result.stdout) == [
            "NAME  BASE  RANK  DIGEST        REGISTERED        RUN            VALIDATION LOSS",
            f"a     tiny  4     {other.digest[:12]}  {local(other.created)}  -              -",
            f"poet  tiny  4     {poet.digest[:12]}  {when}  20260301-poet  3.257",
        ]

    def test_broken_names_are_told_apart(
        self, invoke: Invoke, registry: Registry, base: Base, elsewhere: Path
    ):
        """With the reason, and on stderr, so that a table stays a table."""
        registry.register(elsewhere, "a", base)
        (registry.root / "names" / "b.json").write_text("{}")
        reason = "its record b.json cannot be understood (Object missing required field `name`)"
        result = invoke("list")
        assert len(lines(result.stdout)) == 2
        assert lines(result.stderr) == [
            f"b is broken, not served: {reason}",
            "Register what is broken again, or remove it.",
        ]
        assert json.loads(invoke("list", "--json").stdout)["broken"] == {"b": reason}

    def test_json_holds_everything(
        self, invoke: Invoke, registry: Registry, base: Base, trained: Path
    ):
        """The manifest as it is stored, and where it is."""
        entry = registry.register(trained, "poet", base)
        assert json.loads(invoke("list", "--json").stdout)["adapters"] == [
            {
                "name": "poet",
                "digest": entry.digest,
                "created": entry.created,
                "generation": 1,
                "path": str(entry.path),
                "manifest": json.loads((entry.path / MANIFEST_FILE).read_bytes()),
            }
        ]

    def test_a_strangers_text_is_text(
        self, invoke: Invoke, registry: Registry, base: Base, trained: Path
    ):
        """Neither markup nor control characters of a manifest reach the terminal as such."""
        manifest = msgspec.json.decode((trained / MANIFEST_FILE).read_bytes(), type=Manifest)
        ref = msgspec.structs.replace(base.ref, name="[red]:smile:\x1b[31m")
        odd = msgspec.structs.replace(manifest, base=ref)
        (trained / MANIFEST_FILE).write_bytes(odd.encoded())
        registry.register(trained, "poet", base)
        assert r"[red]:smile:\x1b[31m" in invoke("list").stdout


class TestShow:
    def test_everything_known_is_shown(
        self, invoke: Invoke, registry: Registry, base: Base, trained: Path
    ):
        """One line a fact; control characters of a prompt are escaped."""
        entry = registry.register(trained, "poet", base)
        files = ", ".join(f"{ref.name} {ref.size:,} bytes" for ref in entry.manifest.files)
        result = invoke("show", "poet")
        assert result.stderr == ""
        assert lines(result.stdout) == [
            "name           poet",
            f"digest         {entry.digest}",
            f"registered     {local(entry.created)}",
            f"base           tiny (weights {base.ref.weights_sha256[:12]})",
            "LoRA           rank 4, alpha 16",
            "targets        q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
            r"system prompt  你是一个诗人。\n\x1b[2J",
            "sampling       max_tokens 100, temperature 0.3",
            "run            20260301-poet, 300 steps on poems",
            "metrics        validation_nll 3.25678",
            f"files          {files}",
            f"path           {entry.path}",
        ]
        assert json.loads(invoke("show", "poet", "--json").stdout)["digest"] == entry.digest

    def test_what_is_not_known_is_said(
        self, invoke: Invoke, registry: Registry, base: Base, elsewhere: Path
    ):
        """Of an adapter trained elsewhere."""
        registry.register(elsewhere, "a", base)
        shown = lines(invoke("show", "a").stdout)
        assert shown[6:10] == [
            "system prompt  none",
            "sampling       the server's defaults",
            "run            trained elsewhere",
            "metrics        none",
        ]

    def test_an_unknown_name_is_an_expected_error(self, invoke: Invoke):
        """The root command turns it into a message."""
        assert isinstance(invoke("show", "poet").exception, AdapterNotFound)


class TestRegister:
    def test_it_registers_and_says_so(self, invoke: Invoke, registry: Registry, elsewhere: Path):
        """Nothing on stdout, unless JSON is asked for."""
        result = invoke("register", str(elsewhere), "--name", "poet", "--base", "tiny")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == (
            "Registered 'poet' (rank 4, on tiny). A running server offers it within 2 s.\n"
        )
        again = invoke("register", str(elsewhere), "--name", "poet", "--base", "tiny", "--json")
        assert json.loads(again.stdout)["digest"] == registry.get("poet").digest

    def test_a_base_may_be_a_directory(
        self, invoke: Invoke, registry: Registry, base: Base, elsewhere: Path
    ):
        """Any checkpoint on this machine will do."""
        result = invoke("register", str(elsewhere), "--name", "poet", "--base", str(base.path))
        assert result.exit_code == 0
        assert registry.get("poet").manifest.base.weights_sha256 == base.ref.weights_sha256

    def test_assume_base_is_passed_on(
        self, invoke: Invoke, registry: Registry, base: Base, tmp_path: Path
    ):
        """Refused without, accepted with."""
        odd = random_adapter(tmp_path / "odd", base.path, base_name="someone/else")
        arguments = ("register", str(odd), "--name", "poet", "--base", "tiny")
        refusal = invoke(*arguments)
        assert isinstance(refusal.exception, AdapterInvalid)
        assert "--assume-base" in str(refusal.exception)
        assert invoke(*arguments, "--assume-base").exit_code == 0
        assert "poet" in registry.snapshot().entries

    def test_an_unknown_base_is_an_expected_error(self, invoke: Invoke, elsewhere: Path):
        """Nothing is registered or downloaded."""
        result = invoke("register", str(elsewhere), "--name", "poet", "--base", "nobody")
        assert isinstance(result.exception, BaseNotFound)


class TestRemove:
    def test_it_removes_and_says_what_stays(
        self, invoke: Invoke, registry: Registry, base: Base, elsewhere: Path
    ):
        """A pipe is not asked."""
        registry.register(elsewhere, "poet", base)
        result = invoke("remove", "poet")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == ("Removed 'poet'. Its files stay until `lccc-admin adapters gc`.\n")
        assert registry.snapshot().entries == {}
        assert isinstance(invoke("remove", "poet").exception, AdapterNotFound)

    @pytest.mark.parametrize(
        ("answer", "options", "code"),
        [("y\n", (), 0), ("n\n", (), 1), ("\n", (), 1), ("", ("--yes",), 0)],
    )
    def test_a_terminal_is_asked_unless_yes(
        self,
        invoke: Invoke,
        registry: Registry,
        base: Base,
        elsewhere: Path,
        monkeypatch: pytest.MonkeyPatch,
        answer: str,
        options: tuple[str, ...],
        code: int,
    ):
        """And no is the default."""
        from admin.commands import adapters as module

        class Terminal:
            @staticmethod
            def isatty() -> bool:
                return True

        monkeypatch.setattr(module, "sys", type("sys", (), {"stdin": Terminal}))
        registry.register(elsewhere, "poet", base)
        result = invoke("remove", "poet", *options, answer=answer)
        assert result.exit_code == code
        assert ("Stop offering 'poet'? [y/N]: " in result.stderr) == (not options)
        assert ("poet" in registry.snapshot().entries) == (code == 1)


class TestGc:
    def test_it_prints_what_it_deleted(
        self, invoke: Invoke, registry: Registry, base: Base, elsewhere: Path
    ):
        """Within the grace nothing goes."""
        digest = registry.register(elsewhere, "poet", base).digest
        registry.remove("poet")
        young = invoke("gc")
        assert (young.stdout, young.stderr) == ("", "Nothing to delete.\n")
        old = invoke("gc", "--grace", "0")
        assert (old.stdout, old.stderr) == (f"{digest}\n", "Deleted 1 adapter.\n")


class TestVerify:
    def test_whole_adapters_are_ok(
        self, invoke: Invoke, registry: Registry, base: Base, elsewhere: Path, trained: Path
    ):
        """All of them, or those named."""
        registry.register(elsewhere, "a", base)
        registry.register(trained, "b", base)
        assert invoke("verify").stdout == "a: ok\nb: ok\n"
        assert invoke("verify", "b").stdout == "b: ok\n"

    def test_damage_is_named_and_fails(
        self, invoke: Invoke, registry: Registry, base: Base, elsewhere: Path, trained: Path
    ):
        """The others are still checked; the error says what to do."""
        weights = registry.register(elsewhere, "a", base).path / WEIGHTS_FILE
        registry.register(trained, "b", base)
        (registry.root / "names" / "c.json").write_text("")
        damaged = weights.read_bytes()[:-1] + b"\x7f"
        weights.parent.chmod(0o755)
        weights.unlink()
        weights.write_bytes(damaged)
        result = invoke("verify")
        assert lines(result.stdout) == [
            "a: adapter_model.safetensors is not what was registered",
            "b: ok",
            "c: its record c.json cannot be understood (Input data was truncated)",
        ]
        assert isinstance(result.exception, RegistryCorrupt)
        assert str(result.exception) == (
            "Damaged: a, c. Register from the original directory again."
        )

    def test_nothing_to_verify_is_said(self, invoke: Invoke):
        """As for list."""
        assert invoke("verify").stderr == NOTHING_YET
