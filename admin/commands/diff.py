"""``lccc-admin adapters diff``: how two adapters were made differently, and what that did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from admin.context import AdminContext, pass_admin
from admin.options import json_option

if TYPE_CHECKING:
    from admin.models import Model
    from training.export.difference import Distance

NOTHING = "-"
# What is told of a manifest by its own rows, or never the same.
LEFT_OUT = ("format", "files", "evaluations", "run.id")


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--base", help="The base.  [default: that of the adapters]")
@json_option
@pass_admin
def diff(admin: AdminContext, first: str, second: str, base: str | None, as_json: bool) -> None:
    """Compare the adapters A and B: manifests, recipes, data and what they add to the base.

    Either is a registered adapter or a directory with one; both belong to one base. The cosine
    says how alike the directions are: 1 is the same, 0 nothing in common.
    """
    from admin.models import ModelsDiffer, chosen
    from training.export.difference import distances

    with chosen(admin, [first, second], base) as (_, models):
        paths = [model.path for model in models if model.path is not None]
        if len(paths) < len(models):
            raise ModelsDiffer("The base itself is no adapter; name two adapters.")
        facts = differing(*(_facts(admin, model) for model in models))
        weights = distances(*paths)
    if as_json:
        admin.output.json({"differences": facts, "weights": weights})
        return
    if facts:
        rows = [(name, *map(_shown, values)) for name, values in facts.items()]
        admin.output.table(("differs", models[0].name, models[1].name), rows)
    else:
        admin.output.data("Manifest, recipe and data are the same.")
    admin.output.data("")
    admin.output.table(
        ("added to", f"norm in {models[0].name}", f"norm in {models[1].name}", "cosine"),
        [(name, *_numbers(distance)) for name, distance in weights.items()],
    )


def differing(first: dict[str, Any], second: dict[str, Any]) -> dict[str, list[Any]]:
    """What the two say differently, by name; ``None`` where one says nothing."""
    names = [*first, *(name for name in second if name not in first)]
    return {
        name: [first.get(name), second.get(name)]
        for name in names
        if first.get(name) != second.get(name)
    }


def _facts(admin: AdminContext, model: Model) -> dict[str, Any]:
    """The manifest's fields, then those of the recipe of its run, if that is still here."""
    manifest = dict(_flat(msgspec.to_builtins(model.manifest)))
    facts = {name: each for name, each in manifest.items() if not name.startswith(LEFT_OUT)}
    for evaluation in model.manifest.measured if model.manifest else ():
        perplexity = evaluation.metrics.get("perplexity_per_character")
        facts[f"perplexity per character on {evaluation.dataset}, {evaluation.split}"] = perplexity
    return facts | _recipe(admin, model)


def _recipe(admin: AdminContext, model: Model) -> dict[str, Any]:
    from training.errors import RecipeError, RunNotFound
    from training.recipe import decode_recipe
    from training.runs import RunStore

    if model.manifest is None or model.manifest.run is None:
        return {}
    try:
        path = RunStore(admin.home.runs).get(model.manifest.run.id).recipe_path
        recipe = decode_recipe(path.read_text("utf-8"), str(path))
    except (RunNotFound, RecipeError, OSError):
        admin.output.say(f"The run of '{model.name}' is not here, so its recipe is not compared.")
        return {}
    flat = _flat(msgspec.to_builtins(recipe))
    return {f"recipe {name}": value for name, value in flat}


def _flat(value: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested fields by their names with points between."""
    for name, each in value.items():
        if isinstance(each, dict) and each:
            yield from _flat(each, f"{before}{name}.")
        else:
            yield f"{before}{name}", each


def _shown(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    text = str(value)
    is_hash = len(text) == 64 and not set(text) - set("0123456789abcdef")  # noqa: PLR2004 # SHA-256
    text = text[:12] if is_hash else text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _numbers(distance: Distance) -> tuple[str, str, str]:
    cosine = NOTHING if distance.cosine is None else f"{distance.cosine:+.4f}"
    return f"{distance.first_norm:.4f}", f"{distance.second_norm:.4f}", cosine
