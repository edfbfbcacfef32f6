"""Compiling once, noticing what changes, and doing without."""

from __future__ import annotations

import ctypes
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from server.engine.native import build
from server.engine.native.build import CompilationFailed, cache_directory, compiled, fingerprint

needs_compiler = pytest.mark.skipif(build.library() is None, reason="needs a C compiler")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A library of one function."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "answer.h").write_text("#define ANSWER 42\n")
    (folder / "answer.c").write_text('#include "answer.h"\nint answer(void) { return ANSWER; }\n')
    return folder


@needs_compiler
def test_a_library_is_compiled_once(sources: Path, tmp_path: Path) -> None:
    """The second time the file is there already, and is not touched."""
    first = compiled(tmp_path / "cache", {}, sources)
    written = first.stat().st_mtime_ns
    assert ctypes.CDLL(str(first)).answer() == 42
    assert compiled(tmp_path / "cache", {}, sources) == first
    assert first.stat().st_mtime_ns == written
    left = sorted(file.name for file in (tmp_path / "cache").iterdir())
    assert left == [f"{first.stem}.sha256", first.name]


@needs_compiler
def test_a_changed_header_is_another_library(sources: Path, tmp_path: Path) -> None:
    """Nobody runs what an earlier version of the sources was compiled to."""
    first = compiled(tmp_path / "cache", {}, sources)
    (sources / "answer.h").write_text("#define ANSWER 43\n")
    second = compiled(tmp_path / "cache", {}, sources)
    assert first != second
    assert ctypes.CDLL(str(second)).answer() == 43


@needs_compiler
def test_another_processor_is_another_library(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home on a network share serves machines of several kinds."""
    compiler = build.find_compilers({})[0]
    here = fingerprint(compiler, sources)
    monkeypatch.setattr(build, "processor", lambda: "another")
    assert fingerprint(compiler, sources) != here


@needs_compiler
def test_what_the_compiler_says_is_told(sources: Path, tmp_path: Path) -> None:
    """A source that does not compile leaves no library and a message with the place."""
    (sources / "answer.c").write_text("int answer(void) { return }\n")
    with pytest.raises(CompilationFailed, match=r"answer\.c:1"):
        compiled(tmp_path / "cache", {}, sources)
    assert not list((tmp_path / "cache").iterdir())


def test_without_a_compiler_there_is_no_library(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine goes on with torch, and the log says what to install."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    with caplog.at_level(logging.WARNING):
        assert build.library.__wrapped__() is None
    assert "No C compiler was found" in caplog.text
    assert "apt-get install gcc" in caplog.text


def test_the_cache_lies_where_it_is_told(tmp_path: Path) -> None:
    """``$LCCC_CACHE`` or the platform's directory for caches."""
    assert cache_directory({"LCCC_CACHE": str(tmp_path)}) == tmp_path / "native"
    assert cache_directory({}).parts[-2:] == ("lccc-chat", "native")


@needs_compiler
@pytest.mark.parametrize("left", [b"", b"\x7fELF cut short"])
def test_a_damaged_library_is_compiled_anew(left: bytes, sources: Path, tmp_path: Path) -> None:
    """What a crash has cut short is never loaded: that could end the process."""
    first = compiled(tmp_path / "cache", {}, sources)
    first.write_bytes(left)
    assert compiled(tmp_path / "cache", {}, sources) == first
    assert ctypes.CDLL(str(first)).answer() == 42


@needs_compiler
def test_a_directory_that_others_can_write_is_refused(sources: Path, tmp_path: Path) -> None:
    """A library that somebody else may have put there is not executed."""
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(CompilationFailed, match="chmod 700"):
        compiled(cache, {}, sources)


@needs_compiler
def test_a_compiler_may_be_a_command_with_arguments(sources: Path, tmp_path: Path) -> None:
    """``CC`` is split as a shell does it."""
    with_flag = {"CC": f"{build.find_compilers({})[0][0]} -DUNUSED=1"}
    assert ctypes.CDLL(str(compiled(tmp_path / "cache", with_flag, sources))).answer() == 42


@needs_compiler
def test_the_next_compiler_is_tried(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first may lack OpenMP, as Apple's does, while another can."""
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\n[ $1 = --version ] && echo broken || exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(build, "COMPILERS", (str(broken), "cc", "gcc"))
    assert ctypes.CDLL(str(compiled(tmp_path / "cache", {}, sources))).answer() == 42


def test_a_compiler_that_hangs_is_given_up(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start of a server does not depend on it."""

    def hang(*arguments: object, **settings: object) -> None:
        raise subprocess.TimeoutExpired("cc", 60)

    monkeypatch.setattr(build.subprocess, "run", hang)
    with pytest.raises(CompilationFailed, match="timed out"):
        compiled(tmp_path / "cache", {"CC": sys.executable}, sources)


@needs_compiler
def test_only_a_few_old_libraries_stay(sources: Path, tmp_path: Path) -> None:
    """A cache does not grow with every version."""
    for number in range(build.KEPT + 3):
        (sources / "answer.h").write_text(f"#define ANSWER {number}\n")
        newest = compiled(tmp_path / "cache", {}, sources)
    assert len(list((tmp_path / "cache").glob("*.so"))) == build.KEPT
    assert newest.is_file()
