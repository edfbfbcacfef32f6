"""How commands talk: data on stdout, everything said to a person on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec


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

        On a narrow terminal cells are folded, never cut. Those of the columns ``whole`` keep their
        line as long as the terminal has room for them at all, so that they can be copied.
        """
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        cells = [[str(cell) for cell in row] for row in rows]
        for index, title in enumerate(columns):
            longest = max(cell_len(cell) for cell in [title, *(row[index] for row in cells)])
            width = longest if title in whole else None
            table.add_column(title, overflow="fold", width=width)
        for row in cells:
            table.add_row(*row)
        width = None if sys.stdout.isatty() else 200
        console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
        console.print(table)
