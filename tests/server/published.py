"""OpenAI's published schemas, facts in ``openai_schema/``, and how an answer departs from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parent / "openai_schema"

Schema = dict[str, Any]


def documents() -> dict[str, Schema]:
    """Every schema, by its file's name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(FOLDER.glob("*.json"))
    }


def objects(schema: Schema) -> Iterator[Schema]:
    """Every description of an object in a document."""
    if "properties" in schema:
        yield schema
    for part in schema.get("$defs", {}).values():
        yield from objects(part)


def complaints(answer: Any, name: str) -> list[str]:
    """What is wrong with ``answer``, which should be of the schema ``name``."""
    found = _validator(name).iter_errors(answer)
    return [f"{error.json_path}: {error.message}" for error in found]


@cache
def _validator(name: str) -> Draft202012Validator:
    closed = {name: _closed(document) for name, document in documents().items()}
    resources = [(one["$id"], Resource.from_contents(one)) for one in closed.values()]
    return Draft202012Validator(closed[name], registry=Registry().with_resources(resources))


def _closed(document: Schema) -> Schema:
    """The same, where nothing may stand that is neither OpenAI's nor listed as ours."""
    for schema in objects(document):
        schema["properties"] |= {name: {} for name in schema.get("x-ours", ())}
        schema["additionalProperties"] = False
    return document
