"""Settings as one frozen value, read from TOML: what recipes and cleaning rules have in common.

A value has sections, a section has fields; every field has a type, bounds and a default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from training.errors import TrainingError

Settings = TypeVar("Settings", bound=msgspec.Struct)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of fields; one that does not exist is an error."""


@dataclass(frozen=True)
class SettingsFiles(Generic[Settings]):
    """Settings of one type: those bundled in ``folder``, and any other TOML file.

    ``noun`` is what messages call them, ``error`` what is raised.
    """

    kind: type[Settings]
    noun: str
    folder: Path
    error: type[TrainingError]

    def bundled(self) -> list[str]:
        """The names of those that come with the package."""
        return sorted(path.stem for path in self.folder.glob("*.toml"))

    def read(self, source: str | Path, overrides: Sequence[str] = ()) -> Settings:
        """Bundled settings by name or a TOML file, with ``key=value`` overrides applied.

        A key is ``section.field``, or ``field`` alone where only one section has it; a value is
        TOML, or plain text where the field is text.

        Raises:
            TrainingError: unreadable, unknown field, or a value out of range; names file and field.
        """
        path = self.folder / f"{source}.toml"
        if "/" in str(source) or not path.is_file():
            path = Path(source)
        try:
            values = msgspec.toml.decode(path.read_bytes())
        except FileNotFoundError:
            names = ", ".join(self.bundled())
            raise self.error(
                f"No {self.noun} '{source}': neither a file nor one of {names}."
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.error(f"{path} is not valid TOML: {error}") from error
        overridden = [self._apply(values, override) for override in overrides]
        return self.convert(values, str(path), overridden)

    def decode(self, text: str, source: str) -> Settings:
        """The settings in ``text`` (TOML); ``source`` names it in errors."""
        return self.convert(msgspec.toml.decode(text), source)

    def convert(self, values: Any, source: str, overridden: Sequence[str] = ()) -> Settings:
        """Check decoded ``values``; fields that were ``overridden`` are not the ``source``'s."""

        def blamed(field: str) -> str:
            is_given = any(re.match(rf"{re.escape(one)}\b", field) for one in overridden)
            return "--set" if is_given else f"{source}:"

        if odd := next(not_finite(values), None):
            raise self.error(f"{blamed(odd)} {odd}: a finite number is needed.")
        try:
            return msgspec.convert(values, self.kind)
        except msgspec.ValidationError as error:
            problem, _, where = str(error).partition(" - at `$.")
            field = where.rstrip("`") or self.noun
            raise self.error(f"{blamed(field)} {field}: {problem}.") from error

    def _apply(self, values: dict[str, Any], override: str) -> str:
        """Write the override into ``values``; which field that was."""
        key, equals, text = override.partition("=")
        if not equals:
            field = next(f"{owner}.{names[0]}" for owner, names in self._fields().items())
            raise self.error(f"--set {override}: write it as key=value, e.g. --set {field}=….")
        section, name = self._locate(key.strip(), f"--set {key.strip()}")
        try:
            values.setdefault(section, {})[name] = _value(text.strip())
        except UnicodeEncodeError:
            raise self.error(f"--set {section}.{name}: the value is not valid UTF-8.") from None
        return f"{section}.{name}"

    def field(self, key: str, where: str) -> tuple[str, Any]:
        """The field that ``key`` means, as in an override: its name with the section, and its type.

        Raises:
            TrainingError: there is none; ``where`` begins the message.
        """
        section, name = self._locate(key, where)
        owner = next(one for one in msgspec.structs.fields(self.kind) if one.name == section)
        found = next(one for one in msgspec.structs.fields(owner.type) if one.name == name)
        return f"{section}.{name}", found.type

    def _fields(self) -> dict[str, list[str]]:
        return {
            section.name: [field.name for field in msgspec.structs.fields(section.type)]
            for section in msgspec.structs.fields(self.kind)
        }

    def _locate(self, key: str, where: str) -> tuple[str, str]:
        known = self._fields()
        section, dot, name = key.rpartition(".")
        owners = [owner for owner, names in known.items() if name in names]
        if dot:
            owners = [owner for owner in owners if owner == section]
        if len(owners) == 1:
            return owners[0], name
        options = ", ".join(f"{owner}.{field}" for owner, names in known.items() for field in names)
        raise self.error(f"{where}: there is no such field. Fields: {options}.")


def _value(text: str) -> Any:
    try:
        return msgspec.toml.decode(f"value = {text}".encode())["value"]
    except msgspec.DecodeError:
        return text


def not_finite(value: Any, path: str = "") -> Iterator[str]:
    """Where in decoded TOML, which has `inf` and `nan`, there is one: every bound lets one pass."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from not_finite(one, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for one in value:
            yield from not_finite(one, path)
    elif isinstance(value, float) and not math.isfinite(value):
        yield path
