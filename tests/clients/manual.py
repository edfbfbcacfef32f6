"""The documents' examples of talking to a server, as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MANUAL = ("README.md", "docs/api.md")  # the Chinese ones have the same, see test_docs.py


def python_examples() -> list[str]:
    """The Python blocks, in order."""
    return blocks("python")


def node_examples() -> list[str]:
    """The JavaScript blocks, in order."""
    return blocks("js")


def curl_examples() -> list[str]:
    """The shell blocks in which curl asks for a reply."""
    return [one for one in blocks("sh") if one.startswith("curl") and "/completions" in one]


def blocks(language: str) -> list[str]:
    """The text of every fenced block of a language."""
    text = "\n".join((ROOT / one).read_text(encoding="utf-8") for one in MANUAL)
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
