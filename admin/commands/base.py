"""``lccc-admin base``: make a base available on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapters.base import POCKET
from adapters.errors import BaseNotFound, LcccError
from admin.context import AdminContext, pass_admin
from admin.scores.summary import summary

if TYPE_CHECKING:
    from adapters.base import Base

BENCH_BASE = "bench-0.6b"
BUILT_HERE = (POCKET, BENCH_BASE)


@click.command()
@click.argument("name")
@click.option("--rebuild", is_flag=True, help="Build it again although it is there.")
@pass_admin
def base(admin: AdminContext, name: str, rebuild: bool) -> None:
    """Build the base `pocket` here, or download another from the hub (e.g. Qwen/Qwen3-0.6B).

    Where it is here already, say so, and what `evaluate` has measured of it.

    `bench-0.6b` is built here too: random weights in the shape of Qwen3-0.6B, for benchmarks.
    """
    from adapters.base_evaluations import BaseEvaluations

    if rebuild and name not in BUILT_HERE:
        raise click.UsageError(
            f"--rebuild is for '{POCKET}' and '{BENCH_BASE}' alone; '{name}' is not built here."
        )
    found = obtain_base(admin, name, rebuild=rebuild)
    shape = found.architecture
    admin.output.say(
        f"{found.name} is at {found.path}: {shape.model_type}, {shape.layers} layers, "
        f"hidden size {shape.hidden_size}, context {shape.context_length} tokens."
    )
    for one in BaseEvaluations(admin.home.evaluations).of(found.ref):
        admin.output.say(f"Measured on {one.dataset}, {summary(one)}")


def obtain_base(admin: AdminContext, name: str, *, rebuild: bool = False) -> Base:
    """The base called ``name``; where it is missing, ours are built and a hub id is downloaded.

    Raises:
        BaseNotFound: it is neither here nor to be had.
    """
    from adapters.base import find_base, read_base

    if not rebuild:
        try:
            return find_base(name, admin.home)
        except BaseNotFound:
            if not _can_be_had(name):
                raise
    if name in BUILT_HERE:
        (_build_pocket if name == POCKET else _make_bench_base)(admin)
        return find_base(name, admin.home)
    admin.output.say(f"{name} is not on this machine; downloading it from the hub …")
    from training.download import download_base

    return read_base(download_base(name), name)


def present_base(admin: AdminContext, name: str) -> Base:
    """The base called ``name``, for a command that neither builds nor downloads.

    Raises:
        BaseMissing: it is not here, but `lccc-admin base` would get it.
        BaseNotFound: it is neither here nor to be had.
    """
    from adapters.base import find_base

    try:
        return find_base(name, admin.home)
    except BaseNotFound:
        if _can_be_had(name):
            raise BaseMissing(name) from None
        raise


class BaseMissing(LcccError):
    """A dry run was asked for, and its base would have to be built or downloaded first."""

    def __init__(self, name: str) -> None:
        verb = "builds" if name in BUILT_HERE else "downloads"
        super().__init__(
            f"--dry-run counts tokens with the base's own tokenizer, and '{name}' is not on this "
            f"machine. `lccc-admin base {name}` {verb} it."
        )


def base_argument(admin: AdminContext, name: str, path: str | None) -> str:
    """What leads to the base of a run again: its name, or ``path`` where the name finds nothing.

    A base that was given as a directory is called by the directory's last part alone.
    """
    from adapters.base import locate_base

    try:
        locate_base(name, admin.home)
    except BaseNotFound:
        is_there = path is not None and (Path(path) / "config.json").is_file()
        return path if path and (is_there or not _can_be_had(name)) else name
    return name


def _can_be_had(name: str) -> bool:
    """Whether ``name`` could be built here or is a hub id."""
    is_hub_id = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    return name in BUILT_HERE or is_hub_id


def _build_pocket(admin: AdminContext) -> None:
    from admin.progress import progress_bar
    from training.pocket.base import build_pocket

    admin.output.say("Building 'pocket' from the bundled dialogues (once, about a minute).")
    with progress_bar(admin.output, POCKET) as advance:
        build_pocket(admin.home.bases / POCKET, on_progress=advance)


def _make_bench_base(admin: AdminContext) -> None:
    from admin.progress import progress_bar
    from training.synthetic.base import make_random_base

    admin.output.say(f"Making '{BENCH_BASE}', random weights in Qwen3-0.6B's shape (1.2 GB, once).")
    with progress_bar(admin.output, BENCH_BASE) as advance:
        make_random_base(admin.home.bases / BENCH_BASE, on_progress=advance)
