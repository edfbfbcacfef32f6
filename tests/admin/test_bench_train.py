"""``bench train``: sides in processes that take turns, and figures of what they answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from admin.bench.errors import BenchFailed
from admin.bench.side_process import PlayedRound, SideProcess
from admin.bench.train import SIDES, TrainOptions, trl_python
from admin.bench.train_report import SideReport, TrainReport, ratios_of
from admin.cli import main
from admin.commands.bench import TRAIN_SIDES
from tests.tiny import tiny_base
from training.sides.material import Counts

ANSWERING = """
import json, sys
from training.sides.playing import Playing
playing = Playing()
print("noise of a library")
playing.ready(hello="there")
while (number := playing.next_round()) is not None:
    if number == 2:
        raise SystemExit("the last words")
    playing.play(lambda: bytearray(1 << 20))
"""


def options(**given: object) -> TrainOptions:
    asked = {
        "base": "b",
        "recipe": "r",
        "overrides": (),
        "steps": 1,
        "rounds": 1,
        "tokens_per_forward": 1024,
        "seed": 0,
        "device": "cpu",
        "trl": None,
        "sides": (),
        "peak_tflops": None,
    }
    return TrainOptions(**asked | given)  # type: ignore[arg-type]


def test_a_side_answers_round_by_round_and_its_last_words_are_heard(tmp_path: Path) -> None:
    """What libraries print is no answer; one that dies is named with what it said."""
    command = [sys.executable, "-c", ANSWERING]
    with SideProcess("odd", command, tmp_path / "log") as side:
        assert side.ready() == {"hello": "there"}
        played = side.play(1)
        with pytest.raises(BenchFailed, match=r"(?s)'odd' ended with exit code 1.*the last words"):
            side.play(2)

    assert played.seconds > 0
    assert played.peak_bytes > 1 << 20
    assert "noise of a library" in (tmp_path / "log").read_text()


def test_figures_are_of_all_rounds_and_ratios_of_each() -> None:
    """Rates divide sums; a ratio is ours over theirs, on the clock and on the processors."""
    counts = [Counts(dialogues=8, tokens=400, target_tokens=100, flops=10**12)] * 2
    ours = SideReport.of([PlayedRound(1, 2, 50), PlayedRound(3, 2, 60)], counts, 1e12)
    theirs = SideReport.of([PlayedRound(4, 8, 100), PlayedRound(6, 6, 120)], counts, 1e12)
    sides = {"exact": ours, "padded": theirs}

    (found,) = ratios_of(sides)

    assert (ours.dialogues_per_s, ours.tokens_per_s, ours.mfu) == (4, 200, 0.5)
    assert (found.dialogues_per_s.least, found.dialogues_per_s.most) == (2, 4)
    assert (found.dialogues_per_cpu_s.median, found.peak_bytes) == (3.5, 0.5)
    report = TrainReport(
        benchmark="train",
        machine={},
        base="b",
        steps=1,
        rounds=2,
        tokens_per_forward=1024,
        gradient_checkpointing=True,
        sides=sides,
        ratios=[found],
    )
    assert len(report.columns) == len(report.rows()[0])
    assert report.rows()[1][-2:] == ("3.00× (2.00 to 4.00)", "0.50×")


def test_trl_takes_part_where_it_is_named(tmp_path: Path) -> None:
    """Its sides are left out without it, and refused where they are asked for by name."""
    own = ("exact", "exact-auto", "padded", "throughput", "throughput-auto")
    assert options().chosen() == own
    assert options(trl=tmp_path).chosen() == SIDES == TRAIN_SIDES
    assert options(sides=("padded", "exact")).chosen() == ("exact", "padded")
    with pytest.raises(BenchFailed, match="--side trl-packed needs --trl DIR"):
        options(sides=("trl-packed",)).chosen()
    with pytest.raises(BenchFailed, match="no virtual environment"):
        trl_python(tmp_path)
    assert trl_python(Path(sys.executable)) == Path(sys.executable)


@pytest.mark.slow
def test_the_sides_play_on_a_tiny_base(tmp_path: Path) -> None:
    """From the command line to JSON: five sides, in processes of their own."""
    base = tiny_base(tmp_path / "tiny", max_position_embeddings=2048)
    arguments = ["--base", str(base), "--rounds", "1", "--json"]

    done = CliRunner().invoke(main, ["--home", str(tmp_path), "bench", "train", *arguments])

    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    sides = found["sides"]
    own = ["exact", "exact-auto", "padded", "throughput", "throughput-auto"]
    assert list(sides) == own
    again = [sides[name]["recomputed_layers"] for name in own]
    assert again == [2, 0, None, 2, 0]
    assert sides["exact-auto"]["estimated_bytes"] > sides["exact"]["estimated_bytes"]
    assert all(side["dialogues_per_s"] > 0 for side in found["sides"].values())
    assert [one["theirs"] for one in found["ratios"]] == ["exact", "padded", "throughput"]
