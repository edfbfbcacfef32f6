"""What a benchmark fails at."""

from __future__ import annotations

from adapters.errors import LcccError


class BenchFailed(LcccError):
    """A measurement could not be made, or not all of it; the message says which part."""
