"""One evaluation in a line: the figures that a person asks for first; `--json` has all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from admin.output import local_time

if TYPE_CHECKING:
    from adapters.manifest import Evaluation

FIRST = {
    "perplexity per character": "perplexity_per_character",
    "BLEU-4 (characters)": "bleu_4_characters",
    "distinct-2 (characters)": "distinct_2_characters",
}


def summary(one: Evaluation) -> str:
    """``test, 2026-01-01 12:00: perplexity per character 9.700, …``, in local time."""
    at = local_time(one.measured)
    known = [f"{name} {one.metrics[key]:.3f}" for name, key in FIRST.items() if key in one.metrics]
    return f"{one.split}, {at}: {', '.join(known)}"
