"""The figures of ``bench train``, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import msgspec

from admin.bench.statistics import Spread

if TYPE_CHECKING:
    from admin.bench.side_process import PlayedRound
    from training.sides.material import Counts

# Which side is measured against which; both train on the same dialogues.
PAIRS = (
    ("exact-auto", "exact"),
    ("exact", "padded"),
    ("exact", "trl"),
    ("throughput-auto", "throughput"),
    ("throughput", "trl-packed"),
)
TITLES = {
    "exact": "exact mode",
    "exact-auto": "exact mode, activations kept as memory allows",
    "padded": "padded to max_length",
    "trl": "TRL, dynamic padding",
    "throughput": "throughput mode",
    "throughput-auto": "throughput mode, activations kept as memory allows",
    "trl-packed": "TRL, packed (bfd)",
}


class SideReport(msgspec.Struct, frozen=True, kw_only=True):
    """One side over all rounds. Rates are of all its dialogues and seconds together.

    ``tokens`` are those of the dialogues, without padding. ``peak_bytes`` is allocated on the GPU,
    or resident in the side's process. ``mfu`` is the arithmetic that these dialogues take at least
    (``training/planning/flops.py``) as a share of what the device could do in that time; ``None``
    on a CPU. Of our own sides, ``recomputed_layers`` is how many layers compute their activations
    again, and ``estimated_bytes`` what was to be expected of ``peak_bytes``
    (``training/planning/footprint.py``). ``cpu_seconds`` are those of all processors together,
    which other processes do not lengthen.
    """

    dialogues: int
    tokens: int
    target_tokens: int
    seconds: list[float]
    cpu_seconds: list[float]
    dialogues_per_s: float
    tokens_per_s: float
    peak_bytes: int
    mfu: float | None
    recomputed_layers: int | None = None
    estimated_bytes: int | None = None

    @classmethod
    def of(
        cls,
        played: Sequence[PlayedRound],
        counts: Sequence[Counts],
        peak_flops: float | None,
    ) -> Self:
        """``played`` and ``counts``: what each round took, and what it was about."""
        seconds = [one.seconds for one in played]
        total = sum(seconds)
        dialogues, tokens = (
            sum(one.dialogues for one in counts),
            sum(one.tokens for one in counts),
        )
        flops = sum(one.flops for one in counts)
        return cls(
            dialogues=dialogues,
            tokens=tokens,
            target_tokens=sum(one.target_tokens for one in counts),
            seconds=seconds,
            cpu_seconds=[one.cpu_seconds for one in played],
            dialogues_per_s=dialogues / total,
            tokens_per_s=tokens / total,
            peak_bytes=max(one.peak_bytes for one in played),
            mfu=flops / total / peak_flops if peak_flops else None,
            recomputed_layers=played[-1].facts.get("recomputed_layers"),
            estimated_bytes=played[-1].facts.get("estimated_bytes"),
        )

    @property
    def memory(self) -> str:
        """The peak, and beside it what was to be expected where that is known."""
        found = f"{self.peak_bytes / 2**20:,.0f} MiB"
        if self.estimated_bytes is None:
            return found
        expected = f"{self.estimated_bytes / 2**20:,.0f} estimated"
        return f"{found} ({expected}, {self.recomputed_layers} layers computed again)"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """``ours`` as multiples of ``theirs``: dialogues a second round by round, and peak memory.

    ``dialogues_per_cpu_s``: a second of one processor.
    """

    ours: str
    theirs: str
    dialogues_per_s: Spread
    dialogues_per_cpu_s: Spread
    peak_bytes: float


class TrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that ``bench train`` found. ``steps``: of exact mode, in each round."""

    benchmark: str
    machine: dict[str, Any]
    base: str
    steps: int
    rounds: int
    tokens_per_forward: int
    gradient_checkpointing: bool
    sides: dict[str, SideReport]
    ratios: list[Comparison]

    @property
    def columns(self) -> tuple[str, ...]:
        """The titles of :meth:`rows`."""
        spent = "MFU" if self._knows_mfu else "CPU s"
        names = ("side", "dialogues/s", "tokens/s", spent, "peak memory", "trained on")
        return (*names, "ours against it", "its memory")

    def rows(self) -> list[tuple[str, ...]]:
        """A row for each side."""
        return [self._row(name, side) for name, side in self.sides.items()]

    @property
    def _knows_mfu(self) -> bool:
        return any(side.mfu is not None for side in self.sides.values())

    def _row(self, name: str, side: SideReport) -> tuple[str, ...]:
        against = next((one for one in self.ratios if one.theirs == name), None)
        return (
            TITLES[name],
            f"{side.dialogues_per_s:.3g}",
            f"{side.tokens_per_s:,.0f}",
            f"{side.mfu or 0:.1%}" if self._knows_mfu else f"{sum(side.cpu_seconds):.1f}",
            side.memory,
            f"{side.dialogues} dialogues in {sum(side.seconds):.1f} s",
            against.dialogues_per_s.shown(2, "×") if against else "",
            f"{against.peak_bytes:.2f}×" if against else "",
        )


def ratios_of(sides: Mapping[Any, SideReport]) -> list[Comparison]:
    """Of every pair whose sides were both measured."""
    found = []
    for ours, theirs in PAIRS:
        if ours in sides and theirs in sides:
            one, other = sides[ours], sides[theirs]
            found.append(
                Comparison(
                    ours=ours,
                    theirs=theirs,
                    dialogues_per_s=Spread.of_ratios(other.seconds, one.seconds),
                    dialogues_per_cpu_s=Spread.of_ratios(other.cpu_seconds, one.cpu_seconds),
                    peak_bytes=one.peak_bytes / other.peak_bytes,
                )
            )
    return found
