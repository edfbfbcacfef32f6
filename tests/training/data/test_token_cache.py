"""A split's tokens: made once, never stale, the same however many processes make them."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.base import Base, read_base
from tests.tiny import tiny_base
from training.data import token_cache
from training.data.dataset import PreparedDataset, prepare
from training.data.encode import Encoding, encode_dialogue
from training.data.example import Example
from training.data.rules import read_rules
from training.data.token_cache import encode_split, load_tokenizer
from training.data.tokens import TokenFiles
from training.data.workers import Workers

ENCODING = Encoding("你是猫。", 512)
RAW = [[f"吃了吗{number}", "吃了", "吃的啥", "火锅😂"][: 2 + number % 3] for number in range(30)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return read_base(tiny_base(tmp_path_factory.mktemp("bases") / "tiny"), "tiny")


def prepared(root: Path, *overrides: str, raw: list[list[str]] = RAW) -> PreparedDataset:
    path = root / "raw.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    rules = read_rules("default", overrides)
    return prepare([path], "toy", root / "datasets", rules=rules, overwrite=True)


def encode(dataset: PreparedDataset, base: Base, encoding: Encoding = ENCODING) -> TokenFiles:
    return encode_split(dataset, "train", base, load_tokenizer(base.path), encoding)


def made(dataset: PreparedDataset) -> int:
    """How many encodings lie with the dataset."""
    return len(list((dataset.path / "tokens").glob("[!.]*")))


def test_tokens_are_those_of_each_dialogue(tmp_path: Path, base: Base) -> None:
    """In the order of the split; made once, and with progress."""
    dataset = prepared(tmp_path)
    tokenizer = load_tokenizer(base.path)
    expected: list[list[Example]] = [
        encode_dialogue(tokenizer, dialogue, ENCODING) for dialogue in dataset.split("train")
    ]
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        files = encode_split(
            dataset, "train", base, tokenizer, ENCODING, lambda *step: seen.append(step)
        )
        assert files[:] == expected
    assert seen == [(len(expected), len(expected))]
    assert made(dataset) == 1


@pytest.mark.parametrize(
    "change", ["text", "rule", "system", "length", "roles", "template", "special"]
)
def test_whatever_tokens_depend_on_makes_new_ones(tmp_path: Path, base: Base, change: str) -> None:
    """A changed text, rule, setting, template or tokenizer is never served old tokens."""
    dataset, encoding, used = prepared(tmp_path), ENCODING, base
    before = encode(dataset, base)[:]
    if change == "text":
        dataset = prepared(tmp_path, raw=[["吃了呀", *RAW[0][1:]], *RAW[1:]])
    elif change == "rule":
        dataset = prepared(tmp_path, "emoji=true")
    elif change in ("system", "length", "roles"):
        encoding = {
            "system": Encoding("你是狗。", 512),
            "length": Encoding("你是猫。", 48),
            "roles": Encoding("你是猫。", 512, "last-only"),
        }[change]
    else:
        used = read_base(tiny_base(tmp_path / "other"), "other")
        if change == "template":
            template = used.path / "chat_template.jinja"
            template.write_text(template.read_text().replace("<|im_end|>", "<|im_end|> "))
        else:
            config = used.path / "tokenizer_config.json"
            config.write_text(config.read_text().replace('"<|im_end|>"', '"<|endoftext|>"', 1))
        used = read_base(used.path, "other")
    after = encode(dataset, used, encoding)
    assert after[:] != before
    fresh = [
        encode_dialogue(load_tokenizer(used.path), dialogue, encoding)
        for dialogue in dataset.split("train")
    ]
    assert after[:] == fresh


class Here(Workers):
    """Work handed over as to another process, and done here."""

    def in_order(self, work: Callable[..., Any], tasks: Iterable[Any]) -> Iterator[Any]:
        if self.processes == 1:
            yield from map(work, tasks)
            return
        for task in tasks:
            yield pickle.loads(pickle.dumps(work))(pickle.loads(pickle.dumps(task)))


@pytest.mark.parametrize(
    "workers", [Here, pytest.param(Workers, marks=pytest.mark.slow)], ids=["here", "processes"]
)
def test_processes_and_interruptions_change_nothing(
    tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch, workers: type[Workers]
) -> None:
    """Two processes give the tokens of one, and go on where they were stopped."""
    monkeypatch.setattr(token_cache, "Workers", workers)
    monkeypatch.setattr(token_cache, "DIALOGUES_A_TASK", 5)
    monkeypatch.setattr(token_cache, "TASKS_BETWEEN_KEEPS", 1)
    dataset, tokenizer = prepared(tmp_path), load_tokenizer(base.path)
    expected = [
        encode_dialogue(tokenizer, dialogue, ENCODING) for dialogue in dataset.split("train")
    ]
    steps: list[int] = []

    class Stopped(BaseException):
        pass

    def stop_at_ten(done: int, total: int) -> None:
        steps.append(done)
        if done == 10:
            raise Stopped

    with pytest.raises(Stopped):
        encode_split(dataset, "train", base, tokenizer, ENCODING, stop_at_ten, processes=1)
    assert made(dataset) == 0
    files = encode_split(dataset, "train", base, tokenizer, ENCODING, stop_at_ten, processes=2)
    assert files[:] == expected
    assert steps == [*range(5, len(expected), 5), len(expected)]


def test_encoding_takes_little_memory(
    tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peak is that of a task, however many dialogues there are, and reading adds nothing."""
    monkeypatch.setattr(token_cache, "DIALOGUES_A_TASK", 50)
    tokenizer = load_tokenizer(base.path)
    peaks = []
    for count in (100, 500):
        dataset = prepared(tmp_path, raw=[[f"{n}火锅" * 9, "好" * 30] for n in range(count)])
        encode_split(dataset, "test", base, tokenizer, ENCODING)  # what is loaded once
        tracemalloc.start()
        files = encode_split(dataset, "train", base, tokenizer, ENCODING)
        assert sum(example.targets for each in files for example in each) > count * 80
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5
