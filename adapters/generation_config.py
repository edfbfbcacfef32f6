"""How a base wants to be sampled: its ``generation_config.json``, as transformers has it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec

from adapters.errors import BaseInvalid
from adapters.manifest import SamplingDefaults
from adapters.strict_json import read_object
from adapters.validate import sampling_problems

logger = logging.getLogger(__name__)

GENERATION_CONFIG = "generation_config.json"
# Of no effect with ``do_sample: false``, which asks for the likeliest token.
_DRAWING = ("temperature", "top_p", "top_k")


def read_generation_config(base: Path) -> dict[str, Any]:
    """The file in the directory ``base``, which is optional: empty where there is none.

    Raises:
        BaseInvalid: it cannot be read; what ends a reply may be in it, too.
    """
    path = base / GENERATION_CONFIG
    try:
        return read_object(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BaseInvalid(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BaseInvalid(f"{path} {error}. Mend it, or delete it: it is optional.") from error


def sampling_of(base: Path) -> SamplingDefaults:
    """Temperature, top_p, top_k and repetition_penalty of the base in the directory ``base``.

    Its lengths are not taken: they are bounds of examples. With ``do_sample: false`` the
    temperature is 0. A value that no reply could be sampled with is left out, and logged.

    Raises:
        BaseInvalid: the file cannot be read.
    """
    config = read_generation_config(base)
    if config.get("do_sample") is False:
        config = {name: value for name, value in config.items() if name not in _DRAWING}
        config["temperature"] = 0.0
    given = {name: _usable(config, name) for name in (*_DRAWING, "repetition_penalty")}
    return SamplingDefaults(**given)


def _usable(config: dict[str, Any], name: str) -> Any:
    """One value; ``None`` where it is missing or cannot be used."""
    try:
        found = msgspec.convert({name: config.get(name)}, SamplingDefaults)
    except msgspec.ValidationError as error:
        problems = [f"{name}: {error}"]
    else:
        problems = sampling_problems(found)
    for problem in problems:
        logger.warning("%s: %s; it is ignored.", GENERATION_CONFIG, problem)
    return None if problems else getattr(found, name)
