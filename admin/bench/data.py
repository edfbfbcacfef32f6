"""``bench data``: how quick raw dialogues become tokens, beside ``datasets.map``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import msgspec

from adapters.environment import processors
from admin.bench.errors import BenchFailed
from admin.bench.report import machine
from admin.bench.side_process import PlayedRound, SideProcess, take_turns
from admin.bench.statistics import Spread
from admin.commands.base import obtain_base
from admin.context import AdminContext

SIDES = {
    "ours": "ours: cleaned, hashed, stored, encoded",
    "turns": "datasets.map, a turn a call",
    "batched": "datasets.map, a batch a call",
}
OURS = "ours"
WARM_UP_DIALOGUES = 500
MAX_LENGTH = 1 << 14  # tokens: nothing is cut, which each would do in its own way


class DataSide(msgspec.Struct, frozen=True, kw_only=True):
    """One side's rounds. ``peak_bytes`` is of all its processes together (PSS).

    ``prepare_s`` and ``encode_s`` are the parts of ours, a round each.
    """

    seconds: list[float]
    cpu_seconds: list[float]
    dialogues_per_s: float
    peak_bytes: int
    prepare_s: list[float]
    encode_s: list[float]
    ratio: Spread | None


class DataReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that ``bench data`` found; every side has made the same ``tokens``.

    ``ratio`` of a peer: ours as a multiple of its dialogues a second, round by round.
    """

    benchmark: str
    machine: dict[str, Any]
    base: str
    dialogues: int
    raw_bytes: int
    tokens: int
    rounds: int
    processes: int
    sides: dict[str, DataSide]

    columns: ClassVar[tuple[str, ...]] = (
        "side",
        "dialogues/s",
        "seconds a round",
        "CPU s",
        "peak memory",
        "ours against it",
    )

    def rows(self) -> list[tuple[str, ...]]:
        """A row for each side, ours with its two parts."""
        rows: list[tuple[str, ...]] = []
        for name, side in self.sides.items():
            rows.append(
                (
                    SIDES[name],
                    f"{side.dialogues_per_s:,.0f}",
                    f"{median(side.seconds):.1f}",
                    f"{median(side.cpu_seconds):.1f}",
                    f"{side.peak_bytes / 2**20:,.0f} MiB",
                    side.ratio.shown(1, "×") if side.ratio else "",
                )
            )
            for title, seconds in (("preparing", side.prepare_s), ("encoding", side.encode_s)):
                if seconds:
                    rate = self.dialogues / median(seconds)
                    rows.append(
                        (f"  {title}", f"{rate:,.0f}", f"{median(seconds):.1f}", "", "", "")
                    )
        return rows


def measure_data(
    admin: AdminContext,
    base: str,
    dialogues: int,
    rounds: int,
    seed: int,
    processes: int | None = None,
) -> DataReport:
    """Let the sides make tokens of the same random dialogues, in turn, each from nothing.

    Raises:
        BenchFailed: a side fails, or the sides' tokens differ.
    """
    from training.synthetic.dialogues import write_random_dialogues

    found = obtain_base(admin, base)
    many = processes or processors()
    with tempfile.TemporaryDirectory(prefix="lccc-bench-") as folder, ExitStack() as stack:
        place = Path(folder)
        raw = write_random_dialogues(place / "raw.jsonl", dialogues, seed, key="dialog")
        size = min(dialogues, WARM_UP_DIALOGUES)
        warm_up = write_random_dialogues(place / "warm.jsonl", size, seed, key="dialog")
        sides = {}
        for name in SIDES:
            module = "data_own" if name == OURS else "data_peer"
            files = (found.path, raw, warm_up, place / name)
            command = [sys.executable, "-m", f"training.sides.{module}", *map(str, files)]
            if name == OURS:  # where nobody says how many, as many as `train` would take
                command += [str(MAX_LENGTH), str(processes or 0)]
            else:
                command += [str(MAX_LENGTH), str(many), name]
            side = SideProcess(name, command, place / f"{name}.log")
            sides[name] = stack.enter_context(side).warmed_up()

        def tell(name: str, number: int, done: PlayedRound) -> None:
            rate = f"{dialogues / done.seconds:,.0f} dialogues/s"
            admin.output.say(f"round {number} of {rounds}, {name}: {rate}")

        played = take_turns(sides, rounds, tell)
        check_same(played)
        raw_bytes = raw.stat().st_size
    return DataReport(
        benchmark="data",
        machine=machine(),
        base=found.name,
        dialogues=dialogues,
        raw_bytes=raw_bytes,
        tokens=played[OURS][0].facts["tokens"],
        rounds=rounds,
        processes=many,
        sides={name: _side(each, played[OURS], dialogues) for name, each in played.items()},
    )


def check_same(played: dict[str, list[PlayedRound]]) -> None:
    """Every side has made the same tokens and masks in every round.

    Raises:
        BenchFailed: one has not.
    """
    expected = played[OURS][0].facts["sha256"]
    for name, rounds in played.items():
        if any(one.facts["sha256"] != expected for one in rounds):
            raise BenchFailed(
                f"The side '{name}' made other tokens of the same dialogues. This benchmark "
                "needs a base whose template writes a turn the same wherever it stands, such as "
                "bench-0.6b."
            )


def _side(played: Sequence[PlayedRound], ours: Sequence[PlayedRound], dialogues: int) -> DataSide:
    seconds = [one.seconds for one in played]
    is_ours = played is ours
    return DataSide(
        seconds=seconds,
        cpu_seconds=[one.cpu_seconds for one in played],
        dialogues_per_s=dialogues * len(played) / sum(seconds),
        peak_bytes=max(one.peak_bytes for one in played),
        prepare_s=[one.facts["prepare_s"] for one in played] if is_ours else [],
        encode_s=[one.facts["encode_s"] for one in played] if is_ours else [],
        ratio=None if is_ours else Spread.of_ratios(seconds, [one.seconds for one in ours]),
    )
