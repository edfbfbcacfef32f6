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
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-std=gnu11", "-fno-math-errno")
COMPILE_TIMEOUT_S = 300
COMPILERS = ("cc", "gcc", "clang")


class CompilationFailed(Exception):
    """The compiler is missing or refused the sources; the text says which."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled library of this process; ``None`` where there can be none."""
    try:
        return ctypes.CDLL(str(compiled(cache_directory(os.environ))))
    except (CompilationFailed, OSError) as error:
        logger.warning(
            "The native kernels are not available, so a slower way is used. %s "
            "With a C compiler (on Debian: apt-get install gcc) replies come several times faster.",
            error,
        )
        return None


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Where compiled libraries lie: ``$LCCC_CACHE``, else the platform's cache directory."""
    if chosen := environment.get("LCCC_CACHE"):
        return Path(chosen).expanduser().absolute() / "native"
    import platformdirs

    return platformdirs.user_cache_path("lccc-chat", appauthor=False) / "native"


def compiled(directory: Path, sources: Path = SOURCES) -> Path:
    """The library of ``sources`` in ``directory``, compiled unless it is there.

    Raises:
        CompilationFailed: there is no compiler, or it failed, with what it said.
        OSError: the directory cannot be written.
    """
    compiler = find_compiler()
    target = directory / f"kernels-{fingerprint(compiler, sources)}.so"
    if target.is_file():
        return target
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    logger.info("Compiling the native kernels for this processor, once.")
    with tempfile.TemporaryDirectory(dir=directory) as staging:
        staged = Path(staging) / target.name
        _compile(compiler, sources, staged)
        staged.replace(target)  # another process may have been quicker: both are the same
    return target


def find_compiler() -> str:
    """The path of a C compiler.

    Raises:
        CompilationFailed: there is none.
    """
    chosen = os.environ.get("CC")
    for name in (chosen,) if chosen else COMPILERS:
        if found := shutil.which(name):
            return found
    raise CompilationFailed(f"No C compiler was found ({chosen or ', '.join(COMPILERS)}).")


def fingerprint(compiler: str, sources: Path) -> str:
    """A name for what compiling ``sources`` here gives."""
    said = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    parts = [said.stdout, *FLAGS, platform.machine(), processor()]
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


def _compile(compiler: str, sources: Path, target: Path) -> None:
    files = [str(file) for file in sorted(sources.glob("*.c"))]
    try:
        said = subprocess.run(
            [compiler, *FLAGS, *files, "-o", str(target), "-lm"],
            capture_output=True,
            text=True,
            check=False,
            timeout=COMPILE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise CompilationFailed(f"{compiler} took longer than {COMPILE_TIMEOUT_S} s.") from error
    if said.returncode:
        raise CompilationFailed(f"{compiler} failed: {said.stderr.strip()[-2000:]}")
