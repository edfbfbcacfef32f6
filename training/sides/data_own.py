"""Our own side of ``bench data``: a raw file becomes a dataset, and that tokens on the disk."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from adapters.base import read_base
from adapters.manifest import SEED_SYSTEM_PROMPT
from training.data.dataset import PreparedDataset, prepare
from training.data.encode import Encoding
from training.data.token_cache import encode_split, load_tokenizer
from training.data.tokens import TokenFiles
from training.sides.playing import Measuring, Playing

NAME = "made"


def main(base: str, raw: str, warm_up: str, place: str, max_length: str, processes: str) -> None:
    """Make all anew in ``place`` in each round, of ``raw``, and in round 0 of ``warm_up``.

    0 ``processes`` are as many as preparation and encoding take by themselves.
    """
    playing = Playing()
    found = read_base(Path(base), Path(base).name)
    tokenizer = load_tokenizer(found.path)
    encoding = Encoding(SEED_SYSTEM_PROMPT, int(max_length))
    root, many = Path(place), int(processes) or None
    playing.ready()

    def prepared(file: str) -> PreparedDataset:
        return prepare([Path(file)], NAME, root, validation_share=0, test_share=0, processes=many)

    def encoded(dataset: PreparedDataset) -> TokenFiles:
        return encode_split(dataset, "train", found, tokenizer, encoding, processes=many)

    while (number := playing.next_round()) is not None:
        shutil.rmtree(root, ignore_errors=True)
        measuring = Measuring("cpu", is_family=True)
        began_s = time.perf_counter()
        dataset = prepared(raw if number else warm_up)
        prepared_s = time.perf_counter() - began_s
        tokens = encoded(dataset)
        spent = measuring.end()
        playing.answer(
            spent
            | {
                "facts": {
                    "prepare_s": prepared_s,
                    "encode_s": time.perf_counter() - began_s - prepared_s,
                    "examples": tokens.report.examples,
                    "tokens": tokens.report.tokens,
                    "sha256": digest(
                        (example.ids, example.is_target)
                        for examples in tokens
                        for example in examples
                    ),
                }
            }
        )


def digest(examples: Iterable[tuple[list[int], list[bool]]]) -> str:
    """Of the tokens of examples, in their order, and of which of them are learnt."""
    total = hashlib.sha256()
    for ids, is_target in examples:
        total.update(len(ids).to_bytes(4, "little"))
        total.update(np.array(ids, np.uint32).tobytes() + np.array(is_target, bool).tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
