"""``lccc-admin bench quantization``: two real trainings, compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters.home import Home
from admin.bench.quantization import Pair, QuantizationReport
from admin.cli import main
from tests.tiny import tiny_base
from tests.training.conftest import DIALOGUES, QUICK
from training.data.dataset import prepare

SET = [part for one in (*QUICK, "training.max_steps=2") for part in ("--set", one)]


def test_both_trainings_are_measured_and_nothing_is_left(tmp_path: Path) -> None:
    """NF4 and plain differ, all is in nats per character, and no run or adapter stays."""
    home = Home(tmp_path / "home")
    tiny_base(home.bases / "tiny")
    raw = home.root / "raw.json"
    raw.write_text(json.dumps({"train": DIALOGUES[:20], "valid": DIALOGUES[20:]}), "utf-8")
    prepare([raw], "small", home.datasets)
    asked = ["bench", "quantization", "--data", "small", "--base", "tiny", *SET, "--json"]

    done = CliRunner().invoke(main, ["--home", str(home.root), *asked])

    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    (pair,) = found["pairs"]
    assert found["dialogues"] == 4
    assert found["held"] == "float32"
    assert len({pair["nf4"], pair["nf4_served"], pair["plain"]}) == 3
    assert min(pair["nf4"], pair["nf4_served"], pair["plain"]) > 0
    assert not home.runs.exists()
    assert not home.registry.exists()


def test_differences_are_shares_of_the_plain_ones_cost() -> None:
    """1.02 against 1.00 is 2 %; the median is over seeds."""
    pairs = [Pair(1, 1.02, 1.05, 1.0), Pair(2, 1.98, 2.0, 2.0), Pair(3, 1.0, 1.0, 1.0)]
    found = QuantizationReport("b", "d", 4, "float32", pairs)

    assert found.differences == pytest.approx([0.02, -0.01, 0.0])
    assert found.rows()[0] == ("seed 1", "1.0000", "1.0200 (+2.00%)", "1.0500 (+5.00%)")
    assert found.rows()[-1] == ("median", "", "+0.00%", "+0.00%")
