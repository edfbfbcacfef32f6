"""``bench data``: both sides make the same tokens of the same raw dialogues."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from adapters.manifest import SEED_SYSTEM_PROMPT
from admin.bench.data import MAX_LENGTH, OURS, SIDES, check_same
from admin.bench.errors import BenchFailed
from admin.bench.side_process import PlayedRound
from admin.cli import main
from tests.tiny import byte_tokenizer, tiny_base
from training.data.assembly import Assembler
from training.data.dataset import prepare
from training.data.encode import Encoding
from training.data.encoded import TARGET
from training.sides.data_peer import IGNORED, convert, encoder
from training.synthetic.dialogues import write_random_dialogues


@pytest.mark.parametrize("way", ["turns", "batched"])
def test_the_peer_makes_our_tokens(tmp_path: Path, way: str) -> None:
    """Of dialogues in LCCC's shape, with an odd number of utterances too, and our masks."""
    raw = write_random_dialogues(tmp_path / "raw.jsonl", 300, key="dialog")
    dataset = prepare([raw], "made", tmp_path, validation_share=0, test_share=0)
    tokenizer = byte_tokenizer()
    made = Assembler(tokenizer, Encoding(SEED_SYSTEM_PROMPT, MAX_LENGTH)).encode(
        list(dataset.split("train"))
    )

    messages = [convert(json.loads(line))["messages"] for line in raw.read_text().splitlines()]
    rows = encoder(tokenizer, way, MAX_LENGTH)({"messages": messages})

    flat = [token for ids in rows["input_ids"] for token in ids]
    learnt = [label != IGNORED for labels in rows["labels"] for label in labels]
    assert (made.tokens & ~TARGET).tolist() == flat
    assert (made.tokens >= TARGET).tolist() == learnt
    assert made.examples["end"].tolist() == np.cumsum([*map(len, rows["input_ids"])]).tolist()


@pytest.mark.slow
def test_the_sides_make_the_same_tokens(tmp_path: Path) -> None:
    """From the command line to JSON; the command fails where tokens or masks differ."""
    base = tiny_base(tmp_path / "tiny", max_position_embeddings=2048)
    sizes = ["--dialogues", "300", "--rounds", "1", "--processes", "1"]

    done = CliRunner().invoke(
        main, ["--home", str(tmp_path), "bench", "data", "--base", str(base), *sizes, "--json"]
    )

    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["sides"]) == list(SIDES)
    assert found["tokens"] > 300 * 50
    for name, side in found["sides"].items():
        assert side["dialogues_per_s"] > 0
        assert side["peak_bytes"] > 1 << 20
        assert (side["ratio"] is None) == (name == OURS) == bool(side["encode_s"])


def test_other_tokens_are_a_failure() -> None:
    """The side is named."""
    rounds = {name: [PlayedRound(1, 1, 1, {"sha256": "a"})] for name in SIDES}
    check_same(rounds)
    rounds["batched"] = [PlayedRound(1, 1, 1, {"sha256": "b"})]
    with pytest.raises(BenchFailed, match="'batched' made other tokens"):
        check_same(rounds)
