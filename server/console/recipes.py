"""Recipes as the console shows them: their fields with bounds, and what was changed.

A recipe is a value that needs no torch, so it is read here; what comes of it is planned by the
command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from adapters.home import Home
from server.wire.recipes import RecipeCard, RecipeField
from training.recipe import DEFAULT_RECIPE, Recipe, bundled_recipes, read_recipe

_KINDS: Mapping[str, Any] = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "array": "list",
    "object": "table",
}


@cache
def recipe_cards() -> tuple[RecipeCard, ...]:
    """The bundled recipes, the default one first."""
    names = sorted(bundled_recipes(), key=lambda name: name != DEFAULT_RECIPE)
    return tuple(
        RecipeCard(
            name=name,
            is_default=name == DEFAULT_RECIPE,
            fields=list(_fields(msgspec.to_builtins(read_recipe(name)))),
        )
        for name in names
    )


def changed_fields(recipe: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The fields of ``recipe`` that are not as in the default one."""
    usual = msgspec.to_builtins(read_recipe(DEFAULT_RECIPE))
    return [
        f"{section}.{name}"
        for section, fields in recipe.items()
        for name, value in fields.items()
        if usual.get(section, {}).get(name) != value
    ]


def known_bases(home: Home, served: str) -> list[str]:
    """The bases that trainings can begin from without a download; the served one first."""
    local = (path.parent.name.replace("--", "/") for path in home.bases.glob("*/config.json"))
    return list(dict.fromkeys([served, *sorted(local), "pocket"]))


def is_known_recipe(name: str) -> bool:
    """Whether ``name`` is a bundled recipe; clients name no files."""
    return name in bundled_recipes()


def _fields(recipe: Mapping[str, Mapping[str, Any]]) -> Iterable[RecipeField]:
    _, components = msgspec.json.schema_components([Recipe])
    for section, values in recipe.items():
        properties = _properties(components, section)
        for name, value in values.items():
            yield _field(section, name, value, properties[name])


def _properties(components: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    owner = components["Recipe"]["properties"][section]
    reference = owner.get("$ref") or owner["allOf"][0]["$ref"]
    properties: Mapping[str, Any] = components[Path(reference).name]["properties"]
    return properties


def _field(section: str, name: str, value: Any, schema: Mapping[str, Any]) -> RecipeField:
    forms = schema.get("anyOf", [schema])
    choices = [one for form in forms for one in form.get("enum", ())]
    if len(forms) > 1:  # words beside true and false
        choices += ["true", "false"]
    return RecipeField(
        name=name,
        section=section,
        kind=_KINDS[forms[-1].get("type", "string")],
        value=value,
        choices=[str(one) for one in choices] or None,
        minimum=schema.get("minimum"),
        maximum=schema.get("maximum"),
        exclusive_minimum=schema.get("exclusiveMinimum"),
        exclusive_maximum=schema.get("exclusiveMaximum"),
    )
