r"""Which names requests may give to things, and how a refusal says it.

``\Z``, since ``$`` also matches before a line end; published is ``$``, as JSON schemas mean it.
"""

from __future__ import annotations

SHORT_NAME = r"^[A-Za-z0-9_-]{1,64}\Z"
FILE_NAME = r"^[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*\Z"

RULES = {
    SHORT_NAME: "has to be 1 to 64 of A-Z a-z 0-9 _ -",
    FILE_NAME: (
        "has to be a plain file name: without directories or control characters, and with no dot "
        "in front"
    ),
}
