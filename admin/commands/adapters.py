"""`lccc-admin adapters`: see, register, check and remove what the server offers as models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapters.errors import RegistryCorrupt
from admin.commands.diff import diff
from admin.commands.export import export, merge
from admin.context import AdminContext, pass_admin
from admin.options import json_option
from admin.output import local_time
from admin.scores.summary import summary

if TYPE_CHECKING:
    from adapters.manifest import RunRef
    from adapters.registry import Entry, Registry

HOW_TO_GET_ONE = """\
No adapters yet.
  lccc-admin train --data DATASET --name NAME               trains one
  lccc-admin adapters register DIR --name NAME --base BASE  takes one from elsewhere\
"""


@click.group()
def adapters() -> None:
    """See, register, check, give away and remove adapters.

    A running server offers a registered adapter as a model of that name within 2 s.
    """


for command in (merge, export, diff):
    adapters.add_command(command)


@adapters.command("list")
@json_option
@pass_admin
def list_adapters(admin: AdminContext, as_json: bool) -> None:
    """List the registered adapters, broken ones with the reason."""
    found = _registry(admin).snapshot()
    if as_json:
        entries = [_described(entry) for entry in found.entries.values()]
        admin.output.json({"adapters": entries, "broken": found.broken})
        return
    if not found.entries and not found.broken:
        admin.output.say(HOW_TO_GET_ONE)
    if found.entries:
        admin.output.table(
            ("NAME", "BASE", "RANK", "DIGEST", "REGISTERED", "RUN", "VALIDATION LOSS"),
            [_row(entry) for entry in found.entries.values()],
        )
    for name, reason in found.broken.items():
        admin.output.warn(f"{_printable(name)} is broken, not served: {_printable(reason)}")
    if found.broken:
        admin.output.say("Register what is broken again, or remove it.")


@adapters.command()
@click.argument("name")
@json_option
@pass_admin
def show(admin: AdminContext, name: str, as_json: bool) -> None:
    """Show everything known of the adapter NAME."""
    entry = _registry(admin).get(name)
    if as_json:
        admin.output.json(_described(entry))
        return
    for label, value in _details(entry).items():
        admin.output.data(f"{label + '  ':<15}{_printable(str(value))}")


@adapters.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What clients will call it, as `model`.")
@click.option("--base", required=True, help="The base it was trained on: a name or a directory.")
@click.option(
    "--assume-base",
    is_flag=True,
    help="Accept that the adapter calls its base something else, if all shapes fit.",
)
@json_option
@pass_admin
def register(
    admin: AdminContext, directory: Path, name: str, base: str, assume_base: bool, as_json: bool
) -> None:
    """Check the PEFT LoRA adapter in DIRECTORY, copy it and offer it as NAME.

    An adapter that has this name already is replaced; replies that are being written still come
    from the old one.
    """
    from adapters.base import find_base

    entry = _registry(admin).register(
        directory, name, find_base(base, admin.home), assume_base=assume_base
    )
    what = f"rank {entry.manifest.rank}, on {_printable(entry.manifest.base.name)}"
    admin.output.say(f"Registered '{name}' ({what}). A running server offers it within 2 s.")
    if as_json:
        admin.output.json(_described(entry))


@adapters.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_admin
def remove(admin: AdminContext, name: str, yes: bool) -> None:
    """Stop offering the adapter NAME.

    Its files stay until `adapters gc`.
    """
    if not yes and sys.stdin.isatty():
        click.confirm(f"Stop offering '{_printable(name)}'?", abort=True, err=True)
    _registry(admin).remove(name)
    admin.output.say(f"Removed '{name}'. Its files stay until `lccc-admin adapters gc`.")


@adapters.command()
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    default=3600,
    metavar="SECONDS",
    help="Keep what was in use so recently; a server may just be loading it.",
)
@pass_admin
def gc(admin: AdminContext, grace_s: float) -> None:
    """Delete the files of adapters that no name stands for any more.

    Prints the digest of each.
    """
    removed = _registry(admin).collect_garbage(grace_s)
    for digest in removed:
        admin.output.data(digest)
    count = f"{len(removed)} adapter{'' if len(removed) == 1 else 's'}"
    admin.output.say(f"Deleted {count}." if removed else "Nothing to delete.")


@adapters.command()
@click.argument("name")
@click.argument("to")
@pass_admin
def rename(admin: AdminContext, name: str, to: str) -> None:
    """Call the adapter NAME from now on TO. Clients that ask for NAME are then told it is gone."""
    registry = _registry(admin)
    entry = registry.get(name)
    registry.rename(name, to, entry.manifest.base.name)
    admin.output.say(f"'{name}' is now '{to}'. A running server knows within 2 s.")


@adapters.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@pass_admin
def verify(admin: AdminContext, names: tuple[str, ...]) -> None:
    """Hash the files of the adapters again (all of them without NAME).

    Exits 1 if any differ from what was registered.
    """
    registry = _registry(admin)
    if not names:
        found = registry.snapshot()
        names = tuple(sorted([*found.entries, *found.broken]))
        if not names:
            admin.output.say(HOW_TO_GET_ONE)
    damaged = [name for name in names if not _report(admin, name, registry.verify(name))]
    if damaged:
        listed = ", ".join(map(_printable, damaged))
        raise RegistryCorrupt(f"Damaged: {listed}. Register from the original directory again.")


def _report(admin: AdminContext, name: str, problems: list[str]) -> bool:
    for problem in problems:
        admin.output.data(f"{_printable(name)}: {_printable(problem)}")
    if not problems:
        admin.output.data(f"{name}: ok")
    return not problems


def _registry(admin: AdminContext) -> Registry:
    from adapters.registry import Registry

    return Registry(admin.home.registry)


def _row(entry: Entry) -> tuple[str, ...]:
    manifest = entry.manifest
    loss = manifest.metrics.get("validation_nll")
    cells = (
        entry.name,
        manifest.base.name,
        str(manifest.rank),
        entry.digest[:12],
        local_time(entry.created),
        manifest.run.id if manifest.run else "-",
        "-" if loss is None else f"{loss:.3f}",
    )
    return tuple(map(_printable, cells))


def _details(entry: Entry) -> dict[str, Any]:
    manifest = entry.manifest
    run = manifest.run
    sampling = {
        field: value
        for field in manifest.sampling.__struct_fields__
        if (value := getattr(manifest.sampling, field)) is not None
    }
    lines: dict[str, Any] = {
        "name": entry.name,
        "digest": entry.digest,
        "registered": local_time(entry.created),
        "base": f"{manifest.base.name} (weights {manifest.base.weights_sha256[:12]})",
        "LoRA": f"rank {manifest.rank}, alpha {manifest.alpha:g}",
        "targets": ", ".join(manifest.target_modules),
        "system prompt": manifest.system_prompt or "none",
        "sampling": _pairs(sampling) or "the server's defaults",
        "run": _run(run) if run else "trained elsewhere",
        "metrics": _pairs(manifest.metrics) or "none",
    }
    for one in manifest.measured:
        lines[f"on {one.dataset}"] = summary(one)
    lines |= {"files": _pairs({ref.name: f"{ref.size:,} bytes" for ref in manifest.files})}
    return lines | {"path": entry.path}


def _run(run: RunRef) -> str:
    trial = f", a trial of the sweep {run.sweep}" if run.sweep else ""
    return f"{run.id}, {run.steps} steps on {run.dataset}{trial}"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _described(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "digest": entry.digest,
        "created": entry.created,
        "generation": entry.generation,
        "path": str(entry.path),
        "manifest": entry.manifest,
    }


def _printable(text: str) -> str:
    """Manifests may come from strangers; their text must not steer the terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
