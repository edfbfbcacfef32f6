"""JSON from strangers: one object, no key twice, and never another exception than ValueError."""

from __future__ import annotations

import json
from typing import Any


def read_object(data: bytes) -> dict[str, Any]:
    """The JSON object in ``data``. ``NaN`` and ``Infinity`` are kept, for a check by field.

    Raises:
        ValueError: not UTF-8, not JSON, not an object, too deeply nested, or a key given twice.
    """
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_without_twins)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("should hold a JSON object")  # noqa: TRY004 - one error for bad content
    return found


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Parsers disagree on which of two equal keys counts, so there may be only one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twin = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"has the key {twin[:80]!r} twice")
    return found
