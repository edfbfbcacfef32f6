"""What a command shows on a real (pseudo) terminal of 80 columns."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence


def on_a_terminal(arguments: Sequence[object], **environment: str) -> str:
    """Everything that Python with ``arguments`` shows there; it must end well."""
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={**inherited, "COLUMNS": "80", "TERM": "xterm-256color", **environment},
    ) as process:
        os.close(terminal)
        shown = b""
        while block := _read(screen):
            shown += block
    os.close(screen)
    assert process.returncode == 0, shown.decode()
    return shown.decode()


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 1 << 16)
    except OSError:  # Linux ends a terminal nobody writes to any more with an error
        return b""
