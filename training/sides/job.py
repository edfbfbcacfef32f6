"""What a side of the benchmark has to train, in a file: it also goes to processes of other Pythons.

The standard library alone, because a peer's environment need not have more of ours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """A model, how it is trained, and the sequences of each round; the first round is a warm-up.

    ``sequences``: for each round, pairs of token ids and labels (-100 where no loss is), in the
    order in which they are trained on. ``recipe`` is the resolved one, by sections.
    """

    base: str
    device: str
    dtype: str
    max_length: int
    tokens_per_forward: int
    recipe: dict[str, dict[str, Any]]
    sequences: Sequence[Sequence[tuple[list[int], list[int]]]]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        return cls(**json.loads(path.read_text(encoding="utf-8")))
