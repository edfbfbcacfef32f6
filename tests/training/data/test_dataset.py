"""Prepared datasets: what lies on disk, what it says of itself, and that it is whole or absent."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest
from datasets import Dataset

from adapters.storage import directory_in_use
from training.data import preparation, shards
from training.data.dataset import PreparedDataset, known_datasets, prepare
from training.data.dialogue import Dialogue
from training.data.manifest import MANIFEST_FILE
from training.data.rules import read_rules
from training.errors import DataError, DatasetNotFound


def numbered(count: int, word: str = "句") -> list[list[str]]:
    return [[f"{word}{number}", "嗯", "好的"][: 2 + number % 2] for number in range(count)]


def written(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def everything(dataset: PreparedDataset) -> dict[str, list[list[str]]]:
    return {
        split: [dialogue.utterances for dialogue in dataset.split(split)]
        for split in ("train", "validation", "test")
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "home" / "datasets"


def test_a_dataset_holds_the_cleaned_dialogues(tmp_path: Path, root: Path) -> None:
    """In their order, read back lazily by index, slice and iteration."""
    raw = written(tmp_path / "raw.json", [["吃 了 吗", "吃 了"], ["在 吗"], ["早", "早 安", "嗯"]])
    prepare([raw], "toy", root, validation_share=0, test_share=0)
    train = PreparedDataset.open(root, "toy").split("train")
    assert list(train) == [Dialogue(["吃了吗", "吃了"]), Dialogue(["早", "早安", "嗯"])]
    assert len(train) == 2
    assert train[1] == Dialogue(["早", "早安", "嗯"])
    assert train[-1:] == [Dialogue(["早", "早安", "嗯"])]
    assert train[::-1] == [train[1], train[0]]
    assert isinstance(train.dataset, Dataset)
    assert train.dataset["dialog"][:] == [["吃了吗", "吃了"], ["早", "早安", "嗯"]]
    assert list(PreparedDataset.open(root, "toy").split("test")) == []


def test_the_manifest_tells_where_everything_came_from(tmp_path: Path, root: Path) -> None:
    """Inputs by content, counts a split, the cleaning and the draw."""
    raw = written(tmp_path / "a" / "raw.json", [["吃 了 吗", "吃 了"], ["在"]])
    valid = written(tmp_path / "b" / "valid.json", [["你好", "你好啊", "在吗"]])
    manifest = prepare([raw], "toy", root, valid=valid, seed=7, test_share=0.02).manifest
    assert manifest == PreparedDataset.open(root, "toy").manifest
    assert [(i.name, i.pre_spaced, i.given_as) for i in manifest.inputs] == [
        ("raw.json", True, None),
        ("valid.json", False, "validation"),
    ]
    assert manifest.inputs[0].sha256 == hashlib.sha256(raw.read_bytes()).hexdigest()
    assert manifest.inputs[0].size == raw.stat().st_size
    train, validation = manifest.splits["train"], manifest.splits["validation"]
    assert (train.dialogues, train.utterances, train.characters) == (1, 2, 5)
    assert (validation.dialogues, validation.utterances, validation.characters) == (1, 3, 7)
    assert (train.lengths, validation.lengths) == ({5: 1}, {5: 1})
    assert (manifest.cleaning.read, manifest.cleaning.dropped) == (3, 1)
    assert (manifest.seed, manifest.test_share, manifest.drawn) == (7, 0.02, ("test",))
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", manifest.created)
    stored = json.loads((root / "toy" / MANIFEST_FILE).read_text(encoding="utf-8"))
    assert stored["format"] == "lccc-dataset/2"
    assert str(tmp_path) not in json.dumps(stored)


def test_equal_content_has_an_equal_hash(tmp_path: Path, root: Path) -> None:
    """Whatever the path, the format, the spacing, the name and the time."""
    plain = numbered(60)
    spaced = [[" ".join(text) for text in dialogue] for dialogue in plain]
    first = prepare([written(tmp_path / "one.json", plain)], "one", root)
    lines = tmp_path / "elsewhere" / "two.jsonl.gz"
    lines.parent.mkdir()
    lines.write_bytes(gzip.compress("\n".join(map(json.dumps, spaced)).encode()))
    second = prepare([lines], "two", root)
    assert first.manifest.sha256 == second.manifest.sha256
    assert everything(first) == everything(second)


@pytest.mark.parametrize("change", ["text", "split", "border"])
def test_different_content_has_a_different_hash(tmp_path: Path, root: Path, change: str) -> None:
    """A character, the split of a dialogue, or where an utterance ends."""
    before = {"train": [["ab", "c"], ["d", "e"]], "test": [["f", "g"]], "valid": [["h", "i"]]}
    after = {
        "text": before | {"test": [["f", "x"]]},
        "split": before | {"test": before["valid"], "valid": before["test"]},
        "border": before | {"train": [["a", "bc"], ["d", "e"]]},
    }[change]
    one = prepare([written(tmp_path / "one.json", before)], "one", root).manifest
    two = prepare([written(tmp_path / "two.json", after)], "two", root).manifest
    assert one.sha256 != two.sha256


def test_given_splits_are_kept(tmp_path: Path, root: Path) -> None:
    """Those of a file that brings its own, and those of files given for a split; none is drawn."""
    own = written(
        tmp_path / "own.json",
        {"train": numbered(30), "valid": numbered(2, "验"), "test": numbered(2, "试")},
    )
    more = written(tmp_path / "more.json", numbered(30, "多"))
    valid = written(tmp_path / "valid.json", numbered(3, "另"))
    prepared = prepare([own, more], "toy", root, valid=valid)
    assert everything(prepared) == {
        "train": numbered(30) + numbered(30, "多"),
        "validation": numbered(2, "验") + numbered(3, "另"),
        "test": numbered(2, "试"),
    }
    assert prepared.manifest.drawn == ()


def test_missing_splits_are_drawn_from_the_training_dialogues(tmp_path: Path, root: Path) -> None:
    """Every dialogue is in exactly one split, in its order; a given split gets no more."""
    raw = written(tmp_path / "raw.json", numbered(400))
    valid = written(tmp_path / "valid.json", numbered(3, "验"))
    drawn = prepare([raw], "drawn", root, validation_share=0.1, test_share=0.1)
    splits = everything(drawn)
    assert drawn.manifest.drawn == ("validation", "test")
    assert sorted(chain.from_iterable(splits.values())) == sorted(numbered(400))
    assert all(split == [d for d in numbered(400) if d in split] for split in splits.values())
    assert all(10 < len(splits[name]) < 80 for name in ("validation", "test"))
    half = everything(prepare([raw], "half", root, valid=valid, test_share=0.1))
    assert half["validation"] == numbered(3, "验")
    assert half["test"] == splits["test"]


def test_the_draw_depends_on_content_and_seed_alone(tmp_path: Path, root: Path) -> None:
    """Not on the order of dialogues; duplicates stay together."""
    dialogues = numbered(200) * 2
    forth = written(tmp_path / "forth.json", dialogues)
    back = written(tmp_path / "back.json", dialogues[::-1])
    one = everything(prepare([forth], "one", root, validation_share=0.2))
    two = everything(prepare([back], "two", root, validation_share=0.2))
    other = everything(prepare([forth], "other", root, validation_share=0.2, seed=1))
    assert {name: sorted(split) for name, split in one.items()} == {
        name: sorted(split) for name, split in two.items()
    }
    assert not [d for d in one["train"] if d in one["validation"] or d in one["test"]]
    assert one["validation"] != other["validation"]


@pytest.mark.parametrize(("count", "held_out"), [(20, 1), (19, 0)])
def test_small_data_still_gets_a_validation_dialogue(
    tmp_path: Path, root: Path, count: int, held_out: int
) -> None:
    """From twenty dialogues on, even where the share would give none."""
    raw = written(tmp_path / "raw.json", numbered(count))
    prepared = prepare([raw], "toy", root, validation_share=1e-9, test_share=0)
    assert len(prepared.split("validation")) == held_out
    assert len(prepared.split("train")) == count - held_out


def fails(tmp_path: Path, kind: str) -> dict[str, Any]:
    """Arguments for a preparation that fails, early or late."""
    good = written(tmp_path / "good.json", numbered(3000))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('["a","b"]\n' * 2500 + "[1]\n")
    split = written(tmp_path / "split.json", {"train": numbered(2)})
    alone = written(tmp_path / "alone.json", [["a"], []])
    kinds: dict[str, dict[str, Any]] = {
        "a record late in a second file": {"files": [good, bad]},
        "a missing second file": {"files": [good, tmp_path / "none.json"]},
        "splits given for a split": {"files": [good], "valid": split},
        "no dialogue long enough": {"files": [alone]},
        "no dialogue at all": {"files": [written(tmp_path / "empty.json", [])]},
        "shares of everything": {"files": [good], "validation_share": 0.5, "test_share": 0.5},
    }
    return kinds[kind]


FAILURES = {
    "a record late in a second file": r"bad\.jsonl, record 2501: utterance 1 is a number",
    "a missing second file": r"none\.json: cannot be opened: No such file",
    "splits given for a split": r"split\.json: brings its own splits, .* given as validation",
    "no dialogue long enough": "2 dialogues were read, 2 dropped \\(short 2\\), 0 kept",
    "no dialogue at all": "nothing is left to train on: 0 dialogues were read",
    "shares of everything": "must leave something to train on",
}


@pytest.mark.parametrize(("kind", "message"), FAILURES.items(), ids=FAILURES)
def test_a_failure_leaves_no_trace_and_keeps_the_old_dataset(
    tmp_path: Path, root: Path, kind: str, message: str
) -> None:
    """Not a file more or less than before, not a byte changed."""
    prepare([written(tmp_path / "old.json", numbered(5, "旧"))], "toy", root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=message):
        prepare(name="toy", datasets_root=root, overwrite=True, **fails(tmp_path, kind))
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert [path.name for path in root.iterdir()] == ["toy"]


def test_a_pipe_is_refused_with_what_to_do(root: Path) -> None:
    """As a shell gives one for `<(cat raw.json)`: files are read several times."""
    read, write = os.pipe()
    os.write(write, b'[["a","b"]]')
    os.close(write)
    with pytest.raises(DataError, match=rf"/dev/fd/{read}: a pipe, .*; write it to a file first"):
        prepare([Path(f"/dev/fd/{read}")], "toy", root)
    os.close(read)


class Stopped(BaseException):
    """As Ctrl-C: no expected failure."""


def stopping_at(share: float) -> preparation.OnProgress:
    def stop(done: int, total: int) -> None:
        if done >= share * total:
            raise Stopped

    return stop


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Shards of ten records; how many records were cleaned is appended, shard by shard."""
    cleaned: list[int] = []
    make_shard = preparation.make_shard

    def counting(task: shards.ShardTask) -> shards.ShardReport:
        cleaned.append(len(task.dialogues))
        return make_shard(task)

    monkeypatch.setattr(preparation, "RECORDS_PER_SHARD", 10)
    monkeypatch.setattr(preparation, "make_shard", counting)
    return cleaned


@pytest.mark.parametrize("layout", [json.dumps, lambda data: "\n".join(map(json.dumps, data))])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_stopped_preparation_goes_on_where_it_was(
    tmp_path: Path,
    root: Path,
    small_shards: list[int],
    share: float,
    layout: Callable[[list[list[str]]], str],
) -> None:
    """Nothing is read twice, the result is that of one go, and nobody sees half a dataset."""
    raw = [tmp_path / "one.json", tmp_path / "two.json"]
    for path, word in zip(raw, "甲乙", strict=True):
        path.write_text(layout(numbered(95, word)), encoding="utf-8")
    whole = prepare(raw, "whole", root)
    expected, small_shards[:] = sum(small_shards), []
    with pytest.raises(Stopped):
        prepare(raw, "toy", root, on_progress=stopping_at(share))
    before = sum(small_shards)
    assert 0 < before < expected or share == 0.9
    assert known_datasets(root) == ["whole"]

    said: list[str] = []
    resumed = prepare(raw, "toy", root, validation_share=0.01, say=said.append)

    assert said == [f"Going on after {before} dialogues that were read before."]
    assert sum(small_shards) == expected == 190
    assert resumed.manifest.sha256 == whole.manifest.sha256
    assert resumed.manifest.cleaning == whole.manifest.cleaning
    assert everything(resumed) == everything(whole)
    assert sorted(path.name for path in root.iterdir()) == ["toy", "whole"]


def dropped(dataset: PreparedDataset) -> dict[str, int]:
    """How many dialogues each rule dropped."""
    counts = {rule.name: rule.dialogues_dropped for rule in dataset.manifest.cleaning.rules}
    return {name: count for name, count in counts.items() if count}


def test_equal_dialogues_are_dropped_when_asked(tmp_path: Path, root: Path) -> None:
    """The first stays, in the order of the files; counts and examples follow."""
    dialogues = [["早 ", "早安"], ["在吗", "在"], ["早", "早安"], ["在吗", "在"], ["早", " 早安"]]
    raw = written(tmp_path / "raw.json", dialogues)
    shares = {"validation_share": 0, "test_share": 0}
    mild = prepare([raw], "mild", root, **shares)
    strict = prepare(
        [raw], "strict", root, rules=read_rules("default", ["duplicates=true"]), **shares
    )
    assert len(mild.split("train")) == 5
    assert everything(strict)["train"] == [["早", "早安"], ["在吗", "在"]]
    cleaning = strict.manifest.cleaning
    assert (cleaning.read, cleaning.kept, cleaning.changed, cleaning.dropped) == (5, 2, 1, 3)
    assert dropped(strict) == {"duplicates": 3}
    (rule,) = (rule for rule in cleaning.rules if rule.name == "duplicates")
    assert [example.before for example in rule.examples] == ["早 / 早安", "在吗 / 在", "早 / 早安"]


def near(number: int, end: str = "") -> list[str]:
    """A dialogue of some length that differs from others of its number in its end only."""
    drawn = random.Random(number)
    words = ["".join(chr(drawn.randrange(0x4E00, 0x9FFF)) for _ in range(20)) for _ in range(2)]
    return [words[0], words[1] + end]


def test_near_duplicates_are_dropped_when_asked(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of each kind stays, what is less alike stays too.

    Which one does depends neither on the order of the input nor on the number of processes.
    """
    monkeypatch.setattr(preparation, "RECORDS_PER_SHARD", 16)
    dialogues = [
        near(number, "甲乙丙丁"[copy] if copy else "") for number in range(20) for copy in range(4)
    ]
    dialogues += [near(number, "完全不一样的很长的结尾" * 2) for number in range(3)]
    forth = written(tmp_path / "forth.json", dialogues)
    back = written(tmp_path / "back.json", dialogues[::-1])
    rules = read_rules("default", ["near_duplicates=0.8"])
    one = prepare([forth], "one", root, rules=rules, test_share=0, processes=1)
    other = prepare([back], "other", root, rules=rules, test_share=0, processes=2)
    assert dropped(one) == dropped(other) == {"near_duplicates": 60}
    assert {name: sorted(split) for name, split in everything(one).items()} == {
        name: sorted(split) for name, split in everything(other).items()
    }
    (first_words, lengths) = zip(
        *[(d[0], len(d[1])) for d in chain(*everything(one).values())], strict=True
    )
    assert len(set(first_words)) == 20
    assert sum(length > 30 for length in lengths) == 3


def test_training_dialogues_of_other_splits_are_dropped(tmp_path: Path, root: Path) -> None:
    """By default, where they are equal; with a likeness, where they are nearly so; and counted."""
    raw = written(tmp_path / "raw.json", [near(1), near(2), near(2), near(3, "啦"), near(4)])
    valid = written(tmp_path / "valid.json", [near(1), near(5)])
    test = written(tmp_path / "test.json", [near(5), near(3)])
    plain = prepare([raw], "plain", root, valid=valid, test=test)
    assert everything(plain) == {
        "train": [near(2), near(2), near(3, "啦"), near(4)],
        "validation": [near(1)],
        "test": [near(5), near(3)],
    }
    assert dropped(plain) == {"leaks": 2}
    rules = read_rules("default", ["near_duplicates=0.8"])
    strict = prepare([raw], "strict", root, valid=valid, test=test, rules=rules)
    assert everything(strict)["train"] == [near(2), near(4)]
    assert dropped(strict) == {"duplicates": 1, "leaks": 3}
    off = prepare([raw], "off", root, valid=valid, test=test,
                  rules=read_rules("default", ["leaks=false"]))  # fmt: skip
    assert len(off.split("train")) == 5


@pytest.mark.parametrize("in_training", [False, True])
def test_equal_dialogues_are_found_though_one_file_tells_who_speaks(
    tmp_path: Path, root: Path, in_training: bool
) -> None:
    """As leaks and as duplicates, either way round; with another system prompt it is another."""
    turns = [{"role": "user", "content": "在吗"}, {"role": "assistant", "content": "在"}]
    system = {"role": "system", "content": "你是猫。"}
    files: list[list[object]] = [[["在吗", "在"], ["早", "早安"]], [{"messages": turns}]]
    files[in_training].append({"messages": [system, *turns]})
    plain, messages = (written(tmp_path / f"{n}.json", file) for n, file in enumerate(files))
    train, test = (messages, plain) if in_training else (plain, messages)
    leaking = prepare([train], "leaking", root, test=test, validation_share=0)
    assert dropped(leaking) == {"leaks": 1}
    rules = read_rules("default", ["duplicates=true"])
    shares = {"validation_share": 0, "test_share": 0}
    repeating = prepare([train, test], "repeating", root, rules=rules, **shares)
    assert dropped(repeating) == {"duplicates": 1}


def test_a_drawn_split_has_no_leaks_to_search_for(tmp_path: Path, root: Path) -> None:
    """Near duplicates are dropped before the draw, so none can straddle it."""
    dialogues = [near(number, end) for number in range(100) for end in ("", "啊", "呢")]
    raw = written(tmp_path / "raw.json", dialogues)
    rules = read_rules("default", ["near_duplicates=0.8"])
    prepared = prepare([raw], "toy", root, rules=rules, validation_share=0.3, test_share=0.3)
    splits = everything(prepared)
    first_words = [dialogue[0] for split in splits.values() for dialogue in split]
    assert len(first_words) == len(set(first_words)) == 100
    assert all(len(split) > 10 for split in splits.values())


def test_a_dataset_keeps_the_rules_that_made_it(tmp_path: Path, root: Path) -> None:
    """As they were resolved, with the hashes of the lists; other rules leave other text."""
    raw = written(tmp_path / "raw.json", [["吃了吗！！！！！", "吃了", "傻逼"], ["早", "早安"]])
    mild = prepare([raw], "mild", root)
    strict = prepare([raw], "strict", root, rules=read_rules("lccc", ["elongation=2"]))
    assert everything(mild)["train"] == [["吃了吗！！！！！", "吃了", "傻逼"], ["早", "早安"]]
    assert everything(strict)["train"] == [["吃了吗！！", "吃了"]]
    manifest = PreparedDataset.open(root, "strict").manifest
    assert manifest.rules.text.elongation == 2
    assert manifest.word_lists == read_rules("lccc").word_lists
    assert mild.manifest.word_lists == {}
    dropped = {rule.name: rule.dialogues_dropped for rule in manifest.cleaning.rules}
    assert {name: count for name, count in dropped.items() if count} == {"generic": 1}


def test_other_input_starts_anew(tmp_path: Path, root: Path, small_shards: list[int]) -> None:
    """A changed file, seed or rule finds nothing to go on from; what was kept is removed."""
    raw = written(tmp_path / "raw.json", numbered(50))
    with pytest.raises(Stopped):
        prepare([raw], "toy", root, on_progress=stopping_at(0.1))
    (part,) = root.glob(".toy.*.part")
    written(raw, numbered(50, "新"))
    small_shards[:] = []
    with pytest.raises(Stopped):
        prepare([raw], "toy", root, on_progress=stopping_at(0.9))
    (other,) = root.glob(".toy.*.part")
    assert other != part
    with pytest.raises(Stopped):
        prepare([raw], "toy", root, seed=1, on_progress=stopping_at(0.9))
    prepare([raw], "toy", root, seed=1, rules=read_rules("default", ["emoji=true"]))
    assert sum(small_shards) == 150
    assert not list(root.glob(".*"))


def test_a_shard_that_was_being_written_is_made_again(
    tmp_path: Path, root: Path, small_shards: list[int]
) -> None:
    """Its report is missing, whatever is in its file, so it does not count."""
    raw = written(tmp_path / "raw.json", numbered(50))
    whole = prepare([raw], "whole", root)
    with pytest.raises(Stopped):
        prepare([raw], "toy", root, on_progress=stopping_at(0.9))
    (part,) = root.glob(".toy.*.part")
    second = part / "0000-000001.arrow"
    second.with_suffix(".json").unlink()
    second.write_bytes(b"half")
    small_shards[:] = []
    assert everything(prepare([raw], "toy", root)) == everything(whole)
    assert sum(small_shards) == 40


def test_processes_change_nothing(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several at work give the same dataset; a fault in a file is the same error."""
    monkeypatch.setattr(preparation, "RECORDS_PER_SHARD", 100)
    raw = written(tmp_path / "raw.json", numbered(950))
    one = prepare([raw], "one", root, processes=1).manifest
    two = prepare([raw], "two", root, processes=2).manifest
    assert (one.sha256, one.splits, one.cleaning) == (two.sha256, two.splits, two.cleaning)
    bad = tmp_path / "bad.jsonl"
    bad.write_text('["a","b"]\n' * 150 + "[1]\n")
    with pytest.raises(DataError, match=r"bad\.jsonl, record 151: utterance 1 is a number"):
        prepare([bad], "bad", root, processes=2)


def test_memory_is_bounded(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak does not grow with the number of dialogues but by a few bytes for each."""
    peaks = []
    monkeypatch.setattr(preparation, "RECORDS_PER_SHARD", 100)
    for count in (1000, 4000):
        lines = "\n".join(map(json.dumps, ([f"火锅{n}" * 9, "好" * 40] for n in range(count))))
        raw = tmp_path / f"{count}.jsonl"
        raw.write_text(lines)
        tracemalloc.start()
        prepare([raw], f"d{count}", root)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 40 * 3000


def test_messages_keep_their_roles_and_their_system_prompt(tmp_path: Path, root: Path) -> None:
    """OpenAI's and ShareGPT's shapes, through cleaning and the disk; tools are dropped, counted."""
    raw = tmp_path / "raw.jsonl"
    rows = [
        {"messages": [
            {"role": "system", "content": "你是猫。"},
            {"role": "user", "content": "在吗"},
            {"role": "user", "content": "喂"},
            {"role": "assistant", "content": [{"type": "text", "text": "喵 "}]},
            {"role": "user", "content": "拜拜"},
        ]},
        {"conversations": [
            {"from": "human", "value": "1+1?"},
            {"from": "gpt", "value": "2"},
        ], "system": "算"},
        {"messages": [
            {"role": "user", "content": "天气？"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        ]},
        {"messages": [{"role": "user", "content": "没人"}]},
        {"dialog": ["早", "早安"]},
    ]  # fmt: skip
    raw.write_text("\n".join(map(json.dumps, rows)))
    prepared = prepare([raw], "toy", root, validation_share=0, test_share=0)
    assert list(prepared.split("train")) == [
        Dialogue(["在吗\n喂", "喵"], "你是猫。", has_roles=True),
        Dialogue(["1+1?", "2"], "算", has_roles=True),
        Dialogue(["早", "早安"]),
    ]
    cleaning = prepared.manifest.cleaning
    (speakers,) = (rule for rule in cleaning.rules if rule.name == "speakers")
    assert (speakers.utterances_dropped, speakers.dialogues_dropped) == (2, 2)
    assert (cleaning.read, cleaning.kept, cleaning.changed) == (5, 3, 1)


HALVES = {
    "an utterance": ["今天好累\ud83d", "休息吧"],
    "a system prompt": {
        "messages": [
            {"role": "system", "content": "\ud800你是猫。"},
            {"role": "user", "content": "在吗"},
            {"role": "assistant", "content": "喵"},
        ]
    },
    "a dropped dialogue": ["\udfff"],
    "a role": {"messages": [{"role": "\ud800", "content": "在吗"}]},
}


def test_half_of_a_surrogate_pair_is_cleaned(tmp_path: Path, root: Path) -> None:
    """Wherever an escape in the JSON put one; the report shows it as U+FFFD."""
    raw = tmp_path / "raw.jsonl"
    raw.write_text("\n".join(map(json.dumps, [*numbered(3), *HALVES.values()])))
    prepared = prepare([raw], "toy", root, validation_share=0, test_share=0)
    assert list(prepared.split("train"))[3:] == [
        Dialogue(["今天好累", "休息吧"]),
        Dialogue(["在吗", "喵"], "你是猫。", has_roles=True),
    ]
    cleaning = PreparedDataset.open(root, "toy").manifest.cleaning
    examples = {rule.name: rule.examples for rule in cleaning.rules}
    assert [(one.before, one.after) for one in examples["control"]] == [
        ("今天好累\ufffd", "今天好累"),
        ("\ufffd你是猫。", "你是猫。"),
        ("\ufffd", ""),
    ]
    assert [one.before for one in examples["empty"]] == ["", "\ufffd"]
    assert "\ufffd" in examples["speakers"][0].before
    assert (cleaning.kept, cleaning.changed) == (5, 2)


@pytest.mark.parametrize("place", ["an utterance", "a system prompt"])
def test_half_of_a_surrogate_pair_is_refused_where_it_may_not_be_cleaned(
    tmp_path: Path, root: Path, place: str
) -> None:
    """With the rule off that would remove it; the record is named."""
    raw = tmp_path / "raw.jsonl"
    raw.write_text("\n".join(map(json.dumps, [*numbered(3), HALVES[place]])))
    rules = read_rules("default", ["text.control=false"])
    with pytest.raises(DataError, match=r"raw\.jsonl, record 4: half of a surrogate pair"):
        prepare([raw], "toy", root, rules=rules)


def test_a_preparation_at_work_is_left_alone(tmp_path: Path, root: Path) -> None:
    """A second one of the same input and name is refused while the first goes on."""
    raw = written(tmp_path / "raw.json", numbered(30))
    met: list[str] = []

    def second(done: int, total: int) -> None:
        if not met:
            with pytest.raises(DataError, match="being prepared by another process") as refused:
                prepare([raw], "toy", root)
            met.append(str(refused.value))

    assert len(prepare([raw], "toy", root, on_progress=second).split("train")) > 0
    assert met


def test_a_failed_swap_puts_the_old_dataset_back(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the new directory cannot take the name, the old one has it again."""
    old = prepare([written(tmp_path / "old.json", numbered(5, "旧"))], "toy", root).manifest
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if self.suffix == ".new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    new = written(tmp_path / "new.json", numbered(9))
    with pytest.raises(DataError, match="toy: cannot be written: No space left on device"):
        prepare([new], "toy", root, overwrite=True)
    assert PreparedDataset.open(root, "toy").manifest == old
    monkeypatch.undo()
    said: list[str] = []
    prepare([new], "toy", root, overwrite=True, say=said.append)
    assert said == ["Going on after 9 dialogues that were read before."]
    assert [path.name for path in root.iterdir()] == ["toy"]


def test_a_full_disk_leaves_nothing_where_nothing_is_kept(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the message does not promise that the next preparation goes on."""
    raw = written(tmp_path / "raw.json", numbered(50))

    def full(task: shards.ShardTask) -> shards.ShardReport:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preparation, "make_shard", full)
    with pytest.raises(DataError, match=r"No space left on device\. Nothing is left of this"):
        prepare([raw], "toy", root, keeps=False)
    assert list(root.iterdir()) == []


def test_what_killed_preparations_left_is_removed(tmp_path: Path, root: Path) -> None:
    """When the next one of that name begins; not what is worked on or of another name."""
    prepare([written(tmp_path / "old.json", numbered(5, "旧"))], "toy", root)
    names = ("killed", "at work", "begun", "other", "set aside")
    killed, at_work, begun, other, aside = paths = [
        root / f".{'other' if name == 'other' else 'toy'}.{number:08x}.new"
        for number, name in enumerate(names)
    ]
    for path in paths:
        path.mkdir(parents=True)
        if path != begun:
            os.utime(path, (0, 0))
    aside = aside.rename(aside.with_suffix(".old"))
    with directory_in_use(at_work):
        prepare([written(tmp_path / "new.json", numbered(9))], "toy", root, overwrite=True)
    assert {path.name for path in root.iterdir()} == {"toy", at_work.name, begun.name, other.name}
    assert not killed.exists()
    assert not aside.exists()


def test_a_dataset_set_aside_by_a_killed_preparation_comes_back(tmp_path: Path, root: Path) -> None:
    """It was killed between the two renames, so the older dataset is the only one there is."""
    raw = written(tmp_path / "old.json", numbered(5, "旧"))
    old = prepare([raw], "toy", root).manifest
    (root / "toy").rename(root / ".toy.01234567.old")
    (root / ".toy.01234567.new").mkdir()
    os.utime(root / ".toy.01234567.new", (0, 0))
    with pytest.raises(DataError, match="there already"):
        prepare([raw], "toy", root)
    assert PreparedDataset.open(root, "toy").manifest == old
    assert [path.name for path in root.iterdir()] == ["toy"]


def test_an_older_dataset_is_replaced_only_when_asked(tmp_path: Path, root: Path) -> None:
    """Readers of the old one keep what they opened."""
    prepare([written(tmp_path / "old.json", numbered(5, "旧"))], "toy", root)
    old = PreparedDataset.open(root, "toy").split("train")
    new = written(tmp_path / "new.json", numbered(9))
    with pytest.raises(DataError, match="there already; --overwrite replaces it"):
        prepare([new], "toy", root)
    prepare([new], "toy", root, overwrite=True)
    assert len(PreparedDataset.open(root, "toy").split("train")) == 9
    assert [dialogue.utterances for dialogue in old] == numbered(5, "旧")


def test_a_dataset_made_meanwhile_is_not_replaced(tmp_path: Path, root: Path) -> None:
    """Without --overwrite the name must still be free when the work is done."""
    raw = written(tmp_path / "raw.json", numbered(5))

    def somebody_else(done: int, total: int) -> None:
        (root / "toy").mkdir(exist_ok=True)

    with pytest.raises(DataError, match="there already"):
        prepare([raw], "toy", root, on_progress=somebody_else)
    assert list((root / "toy").iterdir()) == []


@pytest.mark.parametrize("name", ["", ".x", "-x", "a/b", "..", "a b", "猫", "x" * 129, "a\n"])
def test_bad_names_are_refused(tmp_path: Path, root: Path, name: str) -> None:
    """Before anything is read or written; and no such name can be opened either."""
    with pytest.raises(DataError, match="cannot name a dataset"):
        prepare([tmp_path / "none.json"], name, root)
    with pytest.raises(DatasetNotFound):
        PreparedDataset.open(root, name)
    assert not root.exists()


def test_an_unknown_dataset_is_named_with_the_known_ones(tmp_path: Path, root: Path) -> None:
    """Directories without a manifest, such as the rest of a killed preparation, are none."""
    raw = written(tmp_path / "raw.json", numbered(5))
    prepare([raw], "b", root)
    prepare([raw], "a", root)
    (root / ".c.1234.new").mkdir()
    (root / ".c.1234.new" / MANIFEST_FILE).write_text("{}")
    (root / "d").mkdir()
    assert known_datasets(root) == ["a", "b"]
    with pytest.raises(DatasetNotFound, match=r"No dataset is called 'd'\. Prepared: a, b\."):
        PreparedDataset.open(root, "d")


def test_a_damaged_manifest_and_an_unknown_split_are_data_errors(
    tmp_path: Path, root: Path
) -> None:
    """They name the file and the split."""
    prepared = prepare([written(tmp_path / "raw.json", numbered(5))], "toy", root)
    with pytest.raises(DataError, match="no split 'dev'"):
        prepared.split("dev")
    (root / "toy" / MANIFEST_FILE).write_bytes(
        msgspec.json.encode({"format": "lccc-dataset/9", "name": "toy"})
    )
    with pytest.raises(DataError, match=r"manifest\.json: no dataset manifest of this version"):
        PreparedDataset.open(root, "toy")


def test_progress_rises_to_its_total(tmp_path: Path, root: Path) -> None:
    """Over all files and the draw."""
    seen: list[tuple[int, int]] = []
    files = [written(tmp_path / f"{n}.json", numbered(3000, str(n))) for n in range(2)]
    prepare(files, "toy", root, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    assert len({total for _, total in seen}) == 1
    assert len({done for done, _ in seen}) > 3


def test_preparing_is_quiet_and_needs_no_torch(tmp_path: Path, root: Path) -> None:
    """Nothing is printed, nothing is set in the environment, torch is not imported."""
    raw = written(tmp_path / "raw.json", numbered(50))
    code = (
        "import os, sys; from pathlib import Path\n"
        "before = dict(os.environ)\n"
        "import training.data.reader, training.data.clean, training.data.roles\n"
        "import training.data.shards, training.data.split, training.data.workers\n"
        "import training.data.dataset as dataset\n"
        "assert not {'torch', 'datasets', 'transformers'} & set(sys.modules)\n"
        f"prepared = dataset.prepare([Path({str(raw)!r})], 'toy', Path({str(root)!r}))\n"
        "assert len(prepared.split('train')) > 0\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "assert dict(os.environ) == before\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
