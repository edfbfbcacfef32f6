"""How commands talk: data on stdout, everything said to a person on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import click
import msgspec

LEAST_WIDTH = 6  # of a column, with the space before it, beside one that is kept whole


class Output:
    """Tables, JSON and messages, in one place so that colour and width are decided once."""

    def say(self, message: str) -> None:
        """A line for the person at the terminal."""
        click.echo(message, err=True)

    def warn(self, message: str) -> None:
        click.secho(message, fg="yellow", err=True)

    def data(self, text: str) -> None:
        """The result itself, for a person or for a pipe."""
        click.echo(text)

    def json(self, value: Any) -> None:
        """The result as JSON, stable in order, non-ASCII readable."""
        encoded = msgspec.json.format(msgspec.json.encode(value), indent=2)
        click.echo(encoded.decode())

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        whole: Sequence[str] = (),
    ) -> None:
        """A table on stdout; plain and unwrapped where stdout is no terminal.

        On a narrow terminal cells are folded, never cut; those of the columns ``whole`` last, so
        that what they hold can be copied.
        """
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table

        width = None if sys.stdout.isatty() else 200
        console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
        table = Table(box=None, pad_edge=False, header_style="bold")
        room = max(1, console.width - LEAST_WIDTH * (len(columns) - 1))
        cells = [[str(cell) for cell in row] for row in rows]
        for index, title in enumerate(columns):
            longest = max(cell_len(row[index]) for row in [columns, *cells])
            table.add_column(
                title, overflow="fold", width=min(longest, room) if title in whole else None
            )
        for row in cells:
            table.add_row(*row)
        console.print(table)


def local_time(unix_s: float) -> str:
    """``2026-01-31 12:00``, by this machine's clock."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))
