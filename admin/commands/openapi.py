"""``lccc-admin openapi``: the API's description, without starting anything."""

from __future__ import annotations

from pathlib import Path

import click

from adapters.errors import LcccError
from admin.context import AdminContext, pass_admin

COMMITTED = Path(__file__).parents[2] / "openapi" / "openapi.json"


class DocumentOutdated(LcccError):
    """The committed document is not what this version's code describes."""


@click.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it to this file instead of stdout.",
)
@click.option("--check", is_flag=True, help="Only compare it with the committed document.")
@pass_admin
def openapi(admin: AdminContext, output: Path | None, check: bool) -> None:
    """Print the OpenAPI document of the server."""
    if check and output is not None:
        raise click.UsageError("--check and --output exclude each other.")
    from server.app import describe

    document = describe()
    if check:
        _compare(document)
        admin.output.say(f"{COMMITTED} is up to date.")
    elif output is not None:
        output.write_bytes(document)
        admin.output.say(f"Wrote {output}.")
    else:
        admin.output.data(document.decode().removesuffix("\n"))


def _compare(document: bytes) -> None:
    if not COMMITTED.is_file() or COMMITTED.read_bytes() != document:
        raise DocumentOutdated(
            f"{COMMITTED} is out of date. Run `lccc-admin openapi --output {COMMITTED}`, "
            "and look at its diff: that is how the API changes."
        )
