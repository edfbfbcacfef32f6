"""The rules about the code itself: who may import whom, and that tests say what they hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import adapters
import admin
import server
import training

ROOT = Path(__file__).parent.parent


def test_the_import_contracts_are_kept() -> None:
    """import-linter finds every contract of pyproject.toml kept."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_our_packages_are_the_ones_imported() -> None:
    """The top-level names are common ones; another distribution must not stand in for ours."""
    for package in (adapters, admin, server, training):
        assert package.__file__ is not None
        assert Path(package.__file__).is_relative_to(ROOT)


def test_tests_mirror_the_packages() -> None:
    """A folder of tests is a package's, and what tests a package's module lies in its folder.

    Commands and endpoints are tested from outside, in one folder whatever packages are behind them.
    """
    outside = {ROOT / "admin" / "commands", ROOT / "server" / "routes", ROOT / "server" / "wire"}
    strays = []
    for name in ("adapters", "admin", "server", "training"):
        for path in (ROOT / "tests" / name).rglob("test_*.py"):
            folder = ROOT / path.parent.relative_to(ROOT / "tests")
            module = f"{path.stem.removeprefix('test_')}.py"
            homes = {found.parent for found in folder.glob(f"*/{module}")}
            is_astray = folder == ROOT / name and homes and not homes & outside
            if not (folder / "__init__.py").exists():
                strays.append(f"{path.relative_to(ROOT)}: there is no such package")
            elif is_astray and not (folder / module).exists():
                strays.append(f"{path.relative_to(ROOT)}: its module is in a package")

    assert strays == []


def every_test() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every test function with the place where it stands."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_function and node.name.startswith("test_"):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_every_test_says_which_behaviour_it_holds() -> None:
    """No test is without a docstring."""
    found = list(every_test())

    assert len(found) > 500
    assert [where for where, node in found if not ast.get_docstring(node)] == []
