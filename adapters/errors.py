"""The errors of this package, and the root of every error meant for a user.

LcccError                 message says what happened and what to do next
└── AdapterError
    ├── AdapterNotFound   no such name in the registry
    ├── AdapterExists     the name is taken, and may not be replaced
    ├── NameRefused       the name cannot be used
    ├── AdapterInvalid    the directory is no adapter we can serve (carries every problem)
    ├── BaseNotFound      no such base on this machine
    ├── BaseInvalid       the directory is no base we can load
    └── RegistryCorrupt   a published version no longer matches its hash
        └── RegistryUnreadable  it could not be read just now, and may be whole
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class LcccError(Exception):
    """An expected failure. Its text is shown to the user as it is; anything else is a bug."""


class AdapterError(LcccError):
    """Base of the errors about adapters, bases and the registry."""


class AdapterNotFound(AdapterError):
    """There is no adapter of this name."""

    def __init__(self, name: str, known: Sequence[str] = ()) -> None:
        self.name = name
        self.known = tuple(known)
        listed = ", ".join(self.known) if self.known else "none yet"
        super().__init__(f"No adapter is registered as '{name}'. Registered: {listed}.")


class AdapterExists(AdapterError):
    """There is an adapter of this name, which was not to be replaced."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"An adapter is registered as '{name}' already.")


class NameRefused(AdapterError):
    """No adapter can be registered under this name, or not beside those that are."""


class AdapterInvalid(AdapterError):
    """The directory cannot be registered; ``problems`` lists every reason found."""

    def __init__(self, source: Path, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{source} was refused, the registry is unchanged:\n{listed}")


class BaseNotFound(AdapterError):
    """The base is neither built, nor downloaded, nor a directory."""

    def __init__(self, name: str, looked_in: Sequence[Path]) -> None:
        self.name = name
        self.looked_in = tuple(looked_in)
        places = ", ".join(map(str, self.looked_in))
        super().__init__(
            f"The base '{name}' is not on this machine (looked in {places}). "
            "`lccc-admin base pocket` builds the small one here, "
            "`lccc-admin base Qwen/Qwen3-0.6B` downloads that one, "
            "and a path to a checkpoint directory works too."
        )


class BaseInvalid(AdapterError):
    """The directory of a base lacks something or has an unsupported architecture."""


class RegistryCorrupt(AdapterError):
    """Bytes in the registry differ from what was published."""


class RegistryUnreadable(RegistryCorrupt):
    """Bytes in the registry could not be read just now; what was published may be whole."""
