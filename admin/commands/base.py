"""``lccc-admin base``: make a base available on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adapters.errors import BaseNotFound
from admin.context import AdminContext, pass_admin

if TYPE_CHECKING:
    from adapters.base import Base


@click.command()
@click.argument("name")
@click.option("--rebuild", is_flag=True, help="Build `pocket` again although it is there.")
@pass_admin
def base(admin: AdminContext, name: str, rebuild: bool) -> None:
    """Build the base `pocket` here, or download another from the hub (e.g. Qwen/Qwen3-0.6B)."""
    found = obtain_base(admin, name, rebuild=rebuild)
    shape = found.architecture
    admin.output.say(
        f"{found.name} is at {found.path}: {shape.model_type}, {shape.layers} layers, "
        f"hidden size {shape.hidden_size}, context {shape.context_length} tokens."
    )


def obtain_base(admin: AdminContext, name: str, *, rebuild: bool = False) -> Base:
    """The base called ``name``; `pocket` is built and a hub id downloaded where it is missing.

    Raises:
        BaseNotFound: it is neither here nor to be had.
    """
    from adapters.base import find_base

    if not (rebuild and name == "pocket"):
        try:
            return find_base(name, admin.home)
        except BaseNotFound:
            if name != "pocket" and not _is_hub_id(name):
                raise
    if name == "pocket":
        _build_pocket(admin)
    else:
        admin.output.say(f"{name} is not on this machine; downloading it from the hub …")
        from training.download import download_base

        download_base(name)
    return find_base(name, admin.home)


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _build_pocket(admin: AdminContext) -> None:
    from admin.progress import progress_bar
    from training.pocket import build_pocket

    admin.output.say("Building 'pocket' from the bundled dialogues (once, about a minute).")
    with progress_bar(admin.output, "pocket") as advance:
        build_pocket(admin.home.bases / "pocket", on_progress=advance)
