"""Which replies copy."""

from __future__ import annotations

import pytest

from admin.bench.speculation import copied


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("abcdefgh", 0.0),
        ("abcdabcd", 1 / 8),  # known by its three last characters: only the last d
        ("abcabcabcabc", 6 / 12),
        ("abcdeabcf", 0.0),  # goes on otherwise than it did
    ],
)
def test_what_was_said_before_counts_as_copied(text: str, share: float) -> None:
    """A character that followed the same three before, the latest time."""
    assert copied(text) == pytest.approx(share)
