"""``lccc-admin data``: what a person and a pipe get to see."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.errors import BaseNotFound
from adapters.home import Home
from admin.commands.data import data
from admin.context import AdminContext
from admin.output import Output
from tests.admin.terminal import on_a_terminal
from tests.tiny import tiny_base
from training.errors import DataError, DatasetNotFound

SPACED = [
    ["吃 了 吗", "吃 了", "吃 的 啥", "火 锅"],
    ["哟", "在 吗", "在"],
    ["嗯"],
    ["早", "早 安"],
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "raw.json"
    path.write_text(json.dumps(SPACED), encoding="utf-8")
    return path


def run(home: Home, *arguments: object) -> Result:
    """The command as the root would call it; expected errors come out as exceptions."""
    admin = AdminContext(home, Output())
    return CliRunner().invoke(data, [str(argument) for argument in arguments], obj=admin)


def shown_of(home: Home, *arguments: object) -> str:
    """Everything the command shows on a terminal."""
    code = (
        "import sys; from pathlib import Path; from adapters.home import Home\n"
        "from admin.commands.data import data; from admin.context import AdminContext\n"
        "from admin.output import Output\n"
        f"data(sys.argv[1:], obj=AdminContext(Home(Path({str(home.root)!r})), Output()))\n"
    )
    return on_a_terminal(["-c", code, *arguments])


def test_prepare_tells_what_was_kept_changed_and_dropped(home: Home, raw: Path) -> None:
    """The summary goes to stdout, the next command to stderr."""
    result = run(home, "prepare", raw, "--name", "toy", "--test-share", 0)
    assert result.exit_code == 0, result.output
    assert f"toy  3 dialogues in {home.datasets / 'toy'}" in result.stdout
    assert f"from raw.json ({raw.stat().st_size} bytes, pre-spaced)" in result.stdout
    assert "dialogues: read 4, kept 3 (3 of them changed), dropped 1" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["train", "3", "9", "17", "3.00", "given"] in rows
    assert ["validation", "0", "0", "0", "-", "drawn,", "1.0%"] in rows
    spacing = next(row for row in rows if row[:1] == ["spacing"])
    assert spacing[-3:] == ["changed", "6", "utterances"]
    short = next(row for row in rows if row[:1] == ["short"])
    assert short[-3:] == ["dropped", "1", "dialogue"]
    assert "lccc-admin train --data toy --name" in result.stderr


def test_prepare_cleans_by_the_rules_it_is_given(home: Home, tmp_path: Path) -> None:
    """Bundled ones by name, single ones overridden; `data show` has examples of what they did."""
    path = tmp_path / "raw.json"
    path.write_text(json.dumps([["，吃了吗？？？？？？", "吃了 ", "哈哈"], ["早", "早安啊"]]))
    result = run(
        home, "prepare", path, "--name", "toy", "--rules", "lccc", "--set", "generic=false"
    )
    rows = [line.split() for line in result.stdout.splitlines()]
    assert next(row for row in rows if row[:1] == ["orphans"])[-3:] == ["changed", "1", "utterance"]
    off = next(line for line in result.stdout.splitlines() if line.startswith("off: "))
    assert off == "off: emoji, generic, brief, near_duplicates"
    shown = [line.split() for line in run(home, "show", "toy").stdout.splitlines()]
    assert ["orphans", "'，吃了吗？？？？？？'", "→", "'吃了吗？？？？？？'"] in shown
    assert ["elongation", "'吃了吗？？？？？？'", "→", "'吃了吗？？？？'"] in shown
    wrong = run(home, "prepare", path, "--name", "other", "--set", "emojis=true")
    assert isinstance(wrong.exception, DataError)


def test_prepare_prints_its_manifest_as_json(home: Home, raw: Path) -> None:
    """Only that, so it can be piped; it is what lies on the disk."""
    result = run(home, "prepare", raw, "--name", "toy", "--seed", 5, "--json")
    shown = json.loads(result.stdout)
    assert shown == json.loads((home.datasets / "toy" / "manifest.json").read_bytes())
    assert (shown["name"], shown["seed"]) == ("toy", 5)
    assert result.stderr == ""


def test_prepare_takes_files_for_the_splits(home: Home, raw: Path, tmp_path: Path) -> None:
    """--valid and --test name whole files; shares then play no part."""
    valid, test = tmp_path / "valid.jsonl", tmp_path / "test.jsonl"
    valid.write_text('["你好","你好啊"]\n')
    test.write_text('["再见","拜拜"]\n["谢谢","不客气"]\n')
    result = run(
        home, "prepare", raw, raw, "--name", "toy", "--valid", valid, "--test", test, "--json"
    )
    splits = json.loads(result.stdout)["splits"]
    assert {name: split["dialogues"] for name, split in splits.items()} == {
        "train": 6,
        "validation": 1,
        "test": 2,
    }


def test_prepare_passes_on_what_is_wrong_with_a_file(home: Home, tmp_path: Path) -> None:
    """As an expected error with file and record; nothing is left in home."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text('["a","b"]\n["a", 5]\n')
    result = run(home, "prepare", bad, "--name", "toy")
    assert isinstance(result.exception, DataError)
    assert str(result.exception) == f"{bad}, record 2: utterance 2 is a number, not a string"
    assert list(home.datasets.iterdir()) == []


def test_prepare_refuses_to_replace_unless_told(home: Home, raw: Path) -> None:
    """The error names the option."""
    assert run(home, "prepare", raw, "--name", "toy").exit_code == 0
    again = run(home, "prepare", raw, "--name", "toy")
    assert isinstance(again.exception, DataError)
    assert "--overwrite" in str(again.exception)
    assert run(home, "prepare", raw, "--name", "toy", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "--name", "toy"],
        ["prepare", "RAW"],
        ["prepare", "nowhere.json", "--name", "toy"],
        ["prepare", "RAW", "--name", "toy", "--valid-share", "1"],
        ["show"],
        ["show", "toy", "--examples", "-1"],
    ],
)
def test_wrong_usage_is_exit_code_two(home: Home, raw: Path, arguments: list[str]) -> None:
    """Missing and impossible options are told from failures."""
    result = run(home, *(raw if argument == "RAW" else argument for argument in arguments))
    assert result.exit_code == 2


def test_prepare_shows_its_progress_on_a_terminal(home: Home, tmp_path: Path) -> None:
    """A bar with a percentage, gone at the end; the tables fit 80 columns."""
    path = tmp_path / "raw.json"
    path.write_text(json.dumps(SPACED * 5000))
    shown = shown_of(home, "prepare", path, "--name", "toy")
    assert "preparing" in shown
    assert "100%" in shown
    after = shown[shown.rindex("toy\x1b") :]
    assert "preparing" not in after
    assert "15,000" in after
    assert "…" not in after


def test_list_shows_every_dataset(home: Home, raw: Path) -> None:
    """A row each with its size, and as JSON the manifests; a damaged one hides no other."""
    run(home, "prepare", raw, "--name", "b", "--test-share", 0)
    run(home, "prepare", raw, "--name", "a", "--test-share", 0)
    rows = [line.split() for line in run(home, "list").stdout.splitlines()]
    assert [row[0] for row in rows] == ["name", "a", "b"]
    assert rows[1][1:5] == ["3", "0", "0", "17"]
    listed = json.loads(run(home, "list", "--json").stdout)
    assert [manifest["name"] for manifest in listed["datasets"]] == ["a", "b"]
    assert (rows[1][-1], listed["broken"]) == (listed["datasets"][0]["sha256"][:12], {})
    (home.datasets / "a" / "manifest.json").write_bytes(b'{"format": "lccc-dataset/1", "\xff')
    result = run(home, "list")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["name", "b"]
    assert "a is broken: " in result.stderr
    assert "prepare the dataset again" in result.stderr
    listed = json.loads(run(home, "list", "--json").stdout)
    assert [manifest["name"] for manifest in listed["datasets"]] == ["b"]
    assert "prepare the dataset again" in listed["broken"]["a"]


def test_list_says_how_to_begin(home: Home) -> None:
    """An empty home is no error; JSON stays JSON."""
    result = run(home, "list")
    assert result.stdout == ""
    assert "lccc-admin data prepare" in result.stderr
    assert json.loads(run(home, "list", "--json").stdout) == {"datasets": [], "broken": {}}


def test_show_marks_what_is_learnt_by_roles(home: Home, raw: Path) -> None:
    """Without a base on this machine, by roles; in brackets where there is no colour."""
    run(home, "prepare", raw, "--name", "toy", "--test-share", 0)
    shown = run(home, "show", "toy", "--examples", 2).stdout
    assert (
        "  user       吃了吗\n  assistant  ⟦吃了⟧\n  user       吃的啥\n  assistant  ⟦火锅⟧"
        in shown
    )
    assert "  assistant  哟\n  user       在吗\n  assistant  ⟦在⟧" in shown
    assert "早安" not in shown
    assert "\x1b" not in shown
    assert "dialogues: read 4, kept 3" in shown


def test_show_draws_a_histogram_of_lengths(home: Home, tmp_path: Path) -> None:
    """Bars in proportion, a class for the rare long ones, counts that add up."""
    dialogues = [["x" * 4, "y" * 4]] * 200 + [["x" * 6, "y" * 6]] * 100 + [["x" * 900, "y"]]
    path = tmp_path / "raw.json"
    path.write_text(json.dumps(dialogues))
    run(home, "prepare", path, "--name", "toy", "--test-share", 0, "--valid-share", 0)
    shown = run(home, "show", "toy", "--examples", 0).stdout
    bars = [line.split() for line in shown.split("(train)\n")[1].splitlines()]
    assert bars == [
        ["0", "–", "4", "0", "0.0%"],
        ["5", "–", "9", "█" * 40, "200", "66.4%"],
        ["10", "–", "14", "█" * 20, "100", "33.2%"],
        ["15", "or", "more", "▎", "1", "0.3%"],
    ]


def test_show_marks_the_tokens_of_a_base(home: Home, raw: Path, tmp_path: Path) -> None:
    """With --base by its own tokenizer and template, counts included."""
    run(home, "prepare", raw, "--name", "toy", "--test-share", 0)
    base = tiny_base(tmp_path / "tiny")
    result = run(home, "show", "toy", "--examples", 1, "--base", base)
    assert "Examples as tiny reads them" in result.stdout
    assert "Example 1: 119 tokens, 14 learnt" in result.stdout
    assert "  <|im_start|>assistant\n  ⟦火锅<|im_end|>⟧" in result.stdout


def test_show_takes_the_pocket_base_where_it_is_built(home: Home, raw: Path) -> None:
    """It is the default; JSON carries spans, counts and the manifest."""
    run(home, "prepare", raw, "--name", "toy", "--test-share", 0)
    without = json.loads(run(home, "show", "toy", "--json").stdout)
    tiny_base(home.bases / "pocket")
    shown = json.loads(run(home, "show", "toy", "--json").stdout)
    assert (without["base"], shown["base"]) == (None, "pocket")
    assert shown["manifest"]["name"] == "toy"
    assert len(shown["examples"]) == 3
    assert shown["examples"][1]["dialog"] == ["哟", "在吗", "在"]
    (sequence,) = shown["examples"][1]["sequences"]
    assert [span["text"] for span in sequence["spans"] if span["is_target"]] == ["在<|im_end|>"]
    assert sequence["target_tokens"] == 4
    assert without["examples"][1]["sequences"][0]["tokens"] is None


def test_show_marks_in_colour_on_a_terminal(home: Home, raw: Path) -> None:
    """What is learnt is green there, without brackets."""
    run(home, "prepare", raw, "--name", "toy", "--test-share", 0)
    shown = shown_of(home, "show", "toy")
    assert "\x1b[32m\x1b[1m火锅\x1b[0m" in shown
    assert "⟦" not in shown


def test_show_names_what_is_missing(home: Home, raw: Path) -> None:
    """An unknown dataset, and a base that was asked for but is not here."""
    assert isinstance(run(home, "show", "toy").exception, DatasetNotFound)
    run(home, "prepare", raw, "--name", "toy")
    assert isinstance(run(home, "show", "toy", "--base", "none").exception, BaseNotFound)


def test_preview_shows_a_dialogue_as_a_recipe_sees_it(home: Home, raw: Path) -> None:
    """By roles without a base; from any dialogue on, of any split, with fields overridden."""
    run(home, "prepare", raw, "--name", "toy", "--test-share", 0)
    shown = run(home, "preview", "toy", "--from", 2, "--set", "roles=every-reply",
                "--set", "prompt.system=猫").stdout  # fmt: skip
    assert "Example 2, sequence 1 of 2\n  system     猫\n  assistant  哟\n" in shown
    assert "Example 2, sequence 2 of 2" in shown
    assert "  user       哟\n  assistant  ⟦在吗⟧" in shown
    assert "Example 3" in shown
    assert "Example 1" not in shown
    far = run(home, "preview", "toy", "--from", 4)
    assert far.exit_code == 2
    assert "the train split has 3 dialogues" in far.stderr


def test_preview_shows_single_tokens(home: Home, raw: Path, tmp_path: Path) -> None:
    """Each with its border and its loss, in JSON with its ids; it needs a base."""
    run(home, "prepare", raw, "--name", "toy", "--test-share", 0)
    assert isinstance(run(home, "preview", "toy", "--tokens").exception, BaseNotFound)
    base = tiny_base(tmp_path / "tiny")
    options = ("--tokens", "--base", base, "--examples", 1, "--set", "system=a")
    shown = run(home, "preview", "toy", *options).stdout
    assert "<|im_start|>│s│y│s│t│e│m│\n  │a│<|im_end|>│\n" in shown
    assert "⟦火⟧│⟦锅⟧│⟦<|im_end|>⟧│" in shown
    (example,) = json.loads(run(home, "preview", "toy", *options, "--json").stdout)
    (sequence,) = example["sequences"]
    assert sum(len(span["ids"]) for span in sequence["spans"]) == sequence["tokens"]


def test_preview_colours_single_tokens_on_a_terminal(home: Home, raw: Path, tmp_path: Path) -> None:
    """What is learnt is green there, borders are dim."""
    run(home, "prepare", raw, "--name", "toy", "--test-share", 0)
    shown = shown_of(home, "preview", "toy", "--tokens", "--base", tiny_base(tmp_path / "tiny"))
    assert "\x1b[32m\x1b[1m火\x1b[0m\x1b[2m│\x1b[0m" in shown


def test_stats_tell_lengths_repetition_and_padding(home: Home, tmp_path: Path) -> None:
    """As tables, as JSON, and drawn; the tokens are kept for the training."""
    path = tmp_path / "raw.json"
    path.write_text(json.dumps([["早", "早安"], ["早", "早安"], ["吃了吗", "吃了", "嗯", "哦"]]))
    run(home, "prepare", path, "--name", "toy", "--test-share", 0, "--valid-share", 0)
    plain = run(home, "stats", "toy").stdout
    rows = [line.split() for line in plain.splitlines()]
    assert ["train", "3", "0", "1", "0"] in rows
    assert ["train:", "utterances", "a", "dialogue", "3", "2.67", "2", "4", "4", "4"] in rows
    assert ["2", "–", "2", "█" * 40, "2", "66.7%"] in rows
    assert "padding" not in plain
    base, svg = tiny_base(tmp_path / "tiny"), tmp_path / "chart.svg"
    result = run(home, "stats", "toy", "--base", base, "--svg", svg)
    assert "What padding would waste" in result.stdout
    assert "all to 512 tokens" in result.stdout
    assert f"Histograms: {svg}" in result.stderr
    assert svg.read_text().startswith("<svg ")
    found = json.loads(run(home, "stats", "toy", "--base", base, "--json").stdout)
    assert found["splits"]["train"]["repeated"] == 1
    assert found["tokens"]["padding"][0]["useful"] == 1.0
    assert len(list((home.datasets / "toy" / "tokens").glob("[!.]*"))) == 1


def test_the_commands_load_nothing_heavy_until_they_run() -> None:
    """So that help stays quick."""
    code = (
        "import sys, admin.commands.data\n"
        "heavy = {'torch', 'transformers', 'datasets', 'rich', 'training'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
