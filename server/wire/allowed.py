"""Which values a field takes that has only a few, by its path in a request: for refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from msgspec import inspect

_PART = re.compile(r"(?P<name>\w+)|\[[^\]]*\]")


@lru_cache(maxsize=256)
def allowed_at(request_type: type[Any], path: str) -> tuple[str, ...]:
    """What may stand at ``path``, such as ``messages[0].role``; nothing where that is anything."""
    types = list(_plain(inspect.type_info(request_type)))
    for part in _PART.finditer(path):
        inner = (one for known in types for one in _within(known, part["name"]))
        types = [plain for one in inner for plain in _plain(one)]
    values = [
        value for one in types if isinstance(one, inspect.LiteralType) for value in one.values
    ]
    return tuple(dict.fromkeys(str(value) for value in values))


def _plain(known: inspect.Type) -> Iterator[inspect.Type]:
    """The members of a union, without what is only said about them."""
    if isinstance(known, inspect.UnionType):
        for one in known.types:
            yield from _plain(one)
    elif isinstance(known, inspect.Metadata):
        yield from _plain(known.type)
    else:
        yield known


def _within(known: inspect.Type, name: str | None) -> Iterator[inspect.Type]:
    """The types of a field, or without ``name`` those of a list's items."""
    if name is None:
        if isinstance(known, inspect.ListType):
            yield known.item_type
    elif isinstance(known, inspect.StructType):
        if name == known.tag_field:
            yield inspect.LiteralType((known.tag,))
        for field in known.fields:
            if field.encode_name == name:
                yield field.type
