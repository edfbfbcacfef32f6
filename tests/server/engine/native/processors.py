"""The native kernels as processors with fewer instructions than this one have them."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from pathlib import Path
from types import TracebackType

from server.engine.native.build import FLAGS, SOURCES, find_compilers
from server.engine.native.structs import declare

WITHOUT_TILES, NARROW = "without AMX", "with eight lanes"
KINDS = (WITHOUT_TILES, NARROW)
# Of what this processor has; others do not know the options.
_LESS = ("-mno-avx512f", "-mno-avxvnni", "-mno-amx-int8", "-mno-amx-tile")


class Processor:
    """One of :data:`KINDS`: a context in which its library may be called."""

    def __init__(self, kind: str, ours: ctypes.CDLL, directory: Path) -> None:
        self._is_narrow = kind == NARROW
        self._library = _compiled(directory) if self._is_narrow else ours
        declare(self._library)

    def __enter__(self) -> ctypes.CDLL:
        if not self._is_narrow:
            self._library.lccc_use_tiles(0)
        return self._library

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._library.lccc_use_tiles(1)


def _compiled(directory: Path) -> ctypes.CDLL:
    target = directory / "narrow.so"
    if not target.exists():
        less = _LESS if platform.machine() in {"x86_64", "AMD64"} else ()
        files = sorted(map(str, SOURCES.glob("*.c")))
        command = [*find_compilers(os.environ)[0], *FLAGS, "-O1", *less, *files, "-o", str(target)]
        subprocess.run([*command, "-lm"], check=True, capture_output=True)
    return ctypes.CDLL(str(target))
