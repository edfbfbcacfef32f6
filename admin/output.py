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

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table on stdout; plain and unwrapped where stdout is no terminal."""
        from rich.console import Console
        from rich.table import Table

        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        width = None if sys.stdout.isatty() else 200
        console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
        console.print(table)
