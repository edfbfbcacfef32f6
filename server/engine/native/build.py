"""Compiles the C sources of this directory once for this processor, and loads them.

The result is cached by the hash of all that it depends on. Without a working C compiler there is
no library, and the engine computes with torch alone.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).parent
FLAGS = (
    "-O3",
    "-march=native",
    "-fopenmp",
    "-shared",
    "-fPIC",
    "-std=gnu11",
    "-fno-math-errno",
    # Otherwise a compiler may round the same expression differently from place to place.
    "-ffp-contract=off",
)
COMPILE_TIMEOUT_S = 300
COMPILERS = ("cc", "gcc", "clang")
# Libraries of earlier versions and other processors that stay in the cache.
KEPT = 4


class CompilationFailed(Exception):
    """There is no library; the text says why and what to do."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled library of this process; ``None`` where there can be none."""
    try:
        return ctypes.CDLL(str(compiled(cache_directory(os.environ), os.environ)))
    except (CompilationFailed, OSError) as error:
        logger.warning(
            "The native kernels are not available, and torch computes several times slower. %s",
            error,
        )
        return None


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Where compiled libraries lie: ``$LCCC_CACHE``, else the platform's cache directory."""
    if chosen := environment.get("LCCC_CACHE"):
        return Path(chosen).expanduser().absolute() / "native"
    import platformdirs

    return platformdirs.user_cache_path("lccc-chat", appauthor=False) / "native"


def compiled(directory: Path, environment: Mapping[str, str], sources: Path = SOURCES) -> Path:
    """The library of ``sources`` in ``directory``, compiled unless it is there and whole.

    Raises:
        CompilationFailed: there is no compiler, none of them can, or others may write into
            ``directory``, whose libraries are executed.
        OSError: the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    refuse_foreign(directory)
    failures = []
    for compiler in find_compilers(environment):
        try:
            target = directory / f"kernels-{fingerprint(compiler, sources)}.so"
            if not is_whole(target):
                logger.info("Compiling the native kernels for this processor, once.")
                _compile_into(target, compiler, sources)
        except CompilationFailed as error:
            failures.append(str(error))
        else:
            return target
    raise CompilationFailed(" ".join(failures))


def refuse_foreign(directory: Path) -> None:
    """Raise :class:`CompilationFailed` unless only this user can write into ``directory``."""
    found = directory.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CompilationFailed(
            f"{directory} can be written by other users, and what lies there would be executed. "
            f"Make it yours alone (chmod 700 {directory}), or set LCCC_CACHE to another directory."
        )


def is_whole(library: Path) -> bool:
    """Whether the file is what was compiled: a crash may have cut it short."""
    try:
        content, digest = library.read_bytes(), _digest_file(library).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return False
    return hashlib.sha256(content).hexdigest() == digest


def find_compilers(environment: Mapping[str, str]) -> list[list[str]]:
    """The commands that may compile C: ``$CC``, else the usual ones that are here.

    Raises:
        CompilationFailed: there is none.
    """
    chosen = shlex.split(environment.get("CC", ""))
    commands = [chosen] if chosen else [[name] for name in COMPILERS]
    found = [command for command in commands if shutil.which(command[0])]
    if not found:
        names = ", ".join(command[0] for command in commands)
        raise CompilationFailed(
            f"No C compiler was found ({names}). Install one (on Debian: apt-get install gcc)."
        )
    return found


def fingerprint(compiler: Sequence[str], sources: Path) -> str:
    """A name for what compiling ``sources`` here gives."""
    parts = [_said_by([*compiler, "--version"], 60), *FLAGS, platform.machine(), processor()]
    for file in sorted([*sources.glob("*.c"), *sources.glob("*.h")]):
        parts += [file.name, file.read_text(encoding="utf-8")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def processor() -> str:
    """What ``-march=native`` depends on: the instructions of this processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("flags", "Features", "model name")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _compile_into(target: Path, compiler: Sequence[str], sources: Path) -> None:
    """Compile beside ``target`` and move it there; of two processes either may win."""
    files = [str(file) for file in sorted(sources.glob("*.c"))]
    with tempfile.TemporaryDirectory(dir=target.parent) as staging:
        staged = Path(staging) / target.name
        _said_by([*compiler, *FLAGS, *files, "-o", str(staged), "-lm"], COMPILE_TIMEOUT_S)
        digest = hashlib.sha256(staged.read_bytes()).hexdigest()
        _digest_file(staged).write_text(digest, encoding="ascii")
        for file in (staged, _digest_file(staged)):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        staged.replace(target)
        _digest_file(staged).replace(_digest_file(target))
    _forget_old(target.parent)


def _forget_old(directory: Path) -> None:
    def age(file: Path) -> float:
        return -file.stat().st_mtime

    for file in sorted(directory.glob("kernels-*.so"), key=age)[KEPT:]:
        file.unlink(missing_ok=True)
        _digest_file(file).unlink(missing_ok=True)


def _digest_file(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _said_by(command: Sequence[str], timeout_s: float) -> str:
    """What a command prints.

    Raises:
        CompilationFailed: it fails, or does not end.
    """
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise CompilationFailed(f"{command[0]}: {error}.") from error
    if said.returncode:
        raise CompilationFailed(f"{command[0]} failed: {said.stderr.strip()[-2000:]}")
    return said.stdout
