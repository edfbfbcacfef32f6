"""``python -m admin.job DIRECTORY ARGUMENT...``: the command line as a job that the server started.

What it writes goes where the server has led it; how far it is stands in ``DIRECTORY/progress``. At
its end it notes its exit code in
``DIRECTORY/exit``, because the server that started it may be gone by then. SIGTERM, by which a job
is cancelled, ends it as Ctrl-C would: with all cleaning up.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from adapters.storage import Disk, replace_file
from admin.cli import main as command_line
from admin.job_progress import progress_in

EXIT = "exit"


def main() -> None:
    """Run the command line, and say how it ended, also of a bug."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory, arguments = Path(sys.argv[1]), sys.argv[2:]
    code: object = 1
    try:
        with progress_in(directory):
            command_line(arguments, prog_name="lccc-admin")
    except SystemExit as end:
        code = end.code or 0
        raise
    finally:
        number = code if isinstance(code, int) else 1
        replace_file(Disk(), directory / EXIT, b"%d\n" % number)


if __name__ == "__main__":
    main()
