"""``lccc-admin keys``: who may use the server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from admin.context import AdminContext, pass_admin
from admin.options import json_option
from admin.output import local_time

if TYPE_CHECKING:
    from adapters.keyring import Key, Keyring, Scope

_NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,62}[^\s\x00-\x1f\x7f])?")


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of clients.

    Without any key, everyone on this machine may chat with the server, and it listens to no other.
    With the first key, every request needs one. To load and unload adapters over HTTP takes a key
    of scope admin, or the token that `lccc-admin serve` prints. Changes hold at once, also for a
    running server.
    """


def _named(_: click.Context, __: click.Parameter, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise click.BadParameter("needed are 1 to 64 characters of one line.")
    return name


@keys.command()
@click.argument("name", callback=_named)
@click.option(
    "--scope",
    type=click.Choice(["inference", "admin"]),
    default="inference",
    help="What it is good for; an admin key may also do what an inference key may.",
)
@pass_admin
def create(admin: AdminContext, name: str, scope: Scope) -> None:
    """Make a key called NAME and print it.

    It is shown only now: what is stored is its hash.
    """
    keyring = _keyring(admin)
    is_first = not keyring.keys()
    secret = keyring.create(name, scope)
    if is_first:
        admin.output.say("This is the first key: from now on every request needs one.")
    admin.output.say(f"The {scope} key '{name}'. Keep it now; it cannot be shown again.")
    admin.output.data(secret)


@keys.command("list")
@json_option
@pass_admin
def list_keys(admin: AdminContext, as_json: bool) -> None:
    """List the keys by name and scope, and how they begin."""
    found = _keyring(admin).keys()
    if as_json:
        admin.output.json({"keys": [_described(key) for key in found]})
    elif not found:
        admin.output.say("No keys: everyone on this machine may use the server.")
    else:
        admin.output.table(
            ("NAME", "SCOPE", "BEGINS", "CREATED"),
            [(key.name, key.scope, f"{key.begins}...", local_time(key.created)) for key in found],
        )


@keys.command()
@click.argument("name")
@pass_admin
def revoke(admin: AdminContext, name: str) -> None:
    """Make the key called NAME invalid.

    Replies that are being written are finished.
    """
    keyring = _keyring(admin)
    keyring.revoke(name)
    admin.output.say(f"Revoked '{name}'.")
    if not keyring.keys():
        admin.output.say("It was the last: everyone on this machine may use the server again.")


def _keyring(admin: AdminContext) -> Keyring:
    from adapters.keyring import Keyring

    return Keyring(admin.home.keys)


def _described(key: Key) -> dict[str, Any]:
    return {"name": key.name, "scope": key.scope, "begins": key.begins, "created": key.created}
