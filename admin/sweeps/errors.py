"""What ends a sweep."""

from __future__ import annotations

from adapters.errors import LcccError


class SweepFailed(LcccError):
    """A trial could not even begin, or there is no best one to be registered."""
