"""Encoded dialogues as arrays: how tokens and examples lie in memory, and so on the disk.

The tokens of all examples lie end to end; an example is a row with its end, a dialogue the end of
its examples. The highest bit of a token is set where the loss is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from training.data.example import Cut, EncodeReport, Example

TARGET = np.uint32(1 << 31)
EXAMPLE = np.dtype([("end", "<u8"), ("characters", "<u4"), ("dropped", "<u2"), ("cut", "<u2")])
CUTS = tuple(Cut)


class Encoded(msgspec.Struct, frozen=True):
    """Some dialogues' examples as arrays: ``examples`` and ``dialogues`` count from 0 here."""

    tokens: np.ndarray  # [T] uint32
    examples: np.ndarray  # [E] of EXAMPLE
    dialogues: np.ndarray  # [D] uint64, only dialogues that have an example
    report: EncodeReport

    @classmethod
    def of(cls, dialogues: Sequence[Sequence[Example]]) -> Encoded:
        """Lay out the examples of ``dialogues``."""
        examples = [example for each in dialogues for example in each]
        lengths = [len(example.ids) for example in examples]
        many = sum(lengths)
        ids = np.fromiter((token for each in examples for token in each.ids), np.uint32, many)
        targets = np.fromiter((flag for each in examples for flag in each.is_target), bool, many)
        rows = np.zeros(len(examples), EXAMPLE)
        rows["end"] = np.cumsum(lengths)
        rows["characters"] = [example.characters for example in examples]
        rows["dropped"] = [min(example.dropped, 0xFFFF) for example in examples]
        rows["cut"] = [CUTS.index(example.cut) for example in examples]
        ends = np.cumsum([len(each) for each in dialogues if each], dtype=np.uint64)
        report = EncodeReport.over(dialogues)
        return cls(np.where(targets, ids | TARGET, ids), rows, ends, report)

    @classmethod
    def whole(
        cls, tokens: np.ndarray, ends: np.ndarray, characters: Any, dialogues: Any
    ) -> Encoded:
        """Examples that were not cut, each with its end and its characters, of ``dialogues``."""
        rows = np.zeros(len(ends), EXAMPLE)
        rows["end"], rows["characters"] = ends, characters
        report = _counted(tokens, rows, len(dialogues))
        return cls(tokens, rows, np.asarray(dialogues, np.uint64), report)

    @classmethod
    def joined(cls, parts: Sequence[Encoded]) -> Encoded:
        """All of ``parts``, one after the other; at least one."""
        report = parts[0].report
        rows: list[np.ndarray] = []
        ends: list[np.ndarray] = []
        tokens = examples = 0
        for part in parts:
            report = report.plus(part.report) if rows else report
            rows.append(part.examples.copy())
            rows[-1]["end"] += np.uint64(tokens)
            ends.append(part.dialogues + np.uint64(examples))
            tokens += len(part.tokens)
            examples += len(part.examples)
        flat = np.concatenate([part.tokens for part in parts])
        return cls(flat, np.concatenate(rows), np.concatenate(ends), report)

    def part(self, start: int, stop: int) -> Encoded:
        """The dialogues that have an example from ``start`` up to and without ``stop``."""
        first, last = (int(self.dialogues[at - 1]) if at else 0 for at in (start, stop))
        begin, end = (int(self.examples[at - 1]["end"]) if at else 0 for at in (first, last))
        tokens, rows = self.tokens[begin:end], self.examples[first:last].copy()
        rows["end"] -= np.uint64(begin)
        ends = self.dialogues[start:stop] - np.uint64(first)
        return Encoded(tokens, rows, ends, _counted(tokens, rows, len(ends)))

    def equals(self, other: Encoded) -> bool:
        """Whether both are the same to the last bit."""
        return self.report == other.report and all(
            np.array_equal(one, another)
            for one, another in (
                (self.tokens, other.tokens),
                (self.examples, other.examples),
                (self.dialogues, other.dialogues),
            )
        )


def _counted(tokens: np.ndarray, rows: np.ndarray, dialogues: int) -> EncodeReport:
    """The count of examples; none of them begins with a target."""
    is_target = tokens >= TARGET
    lengths = np.diff(rows["end"].astype(np.int64), prepend=0)
    return EncodeReport(
        dialogues=dialogues,
        examples=len(rows),
        replies=int(np.count_nonzero(is_target[1:] & ~is_target[:-1])),
        tokens=len(tokens),
        target_tokens=int(np.count_nonzero(is_target)),
        longest=int(lengths.max(initial=0)),
        cut={str(cut): int(np.count_nonzero(rows["cut"] == at)) for at, cut in enumerate(CUTS)},
        utterances_dropped=int(rows["dropped"].sum(dtype=np.int64)),
    )
