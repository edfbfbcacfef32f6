"""Rules: where they are read from, what is refused, and what they are told apart by."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.rules import read_rules
from training.errors import DataError


def test_bundled_rules_can_be_read() -> None:
    """The default ones, and those for LCCC, which switch more on."""
    default, lccc = read_rules("default"), read_rules("lccc")
    assert (default.abuse, default.rules.dialogues.duplicates) == (None, False)
    assert lccc.abuse is not None
    assert lccc.rules.dialogues.duplicates
    assert set(lccc.word_lists) == {"notices", "abuse", "generic"}


def test_a_file_overrides_the_defaults_and_the_command_line_both(tmp_path: Path) -> None:
    """What neither names has its default; own lists of words take the place of ours."""
    words = tmp_path / "bad.txt"
    words.write_text("坏蛋")
    path = tmp_path / "mine.toml"
    path.write_text(
        f'[text]\nelongation = 3\n[utterances]\nabuse = true\nabuse_words = "{words}"\n'
    )
    loaded = read_rules(str(path), ["elongation=5", "text.emoji=true"])
    assert (loaded.rules.text.elongation, loaded.rules.text.emoji) == (5, True)
    assert loaded.rules.text.control
    assert loaded.abuse is not None
    assert loaded.abuse.is_in("大坏蛋")


@pytest.mark.parametrize(
    ("source", "override", "said"),
    [
        ("nonsense", None, r"No rules 'nonsense': neither a file nor one of default, lccc"),
        ("default", "emojis=true", r"--set emojis: there is no such field.*text\.emoji"),
        ("default", "text.emoji", r"--set text\.emoji: write it as key=value"),
        ("default", "spacing=sometimes", r"text\.spacing: Invalid enum value 'sometimes'"),
        ("default", "near_duplicates=2", r"dialogues\.near_duplicates: Expected `float` <= 1"),
        ("lccc", "abuse_words=nowhere", r"No list of words 'nowhere'"),
    ],
)
def test_wrong_rules_are_refused_by_their_field(
    source: str, override: str | None, said: str
) -> None:
    """As expected errors."""
    with pytest.raises(DataError, match=said):
        read_rules(source, [override] if override else [])


def test_rules_that_clean_alike_have_one_hash(tmp_path: Path) -> None:
    """It follows the words of a list, and not the rules that look at all dialogues together."""
    words = tmp_path / "bad.txt"
    words.write_text("坏蛋")
    own = ["abuse=true", f"abuse_words={words}"]
    before = read_rules("default", own).cleaning_sha256
    assert read_rules("default", [*own, "duplicates=true"]).cleaning_sha256 == before
    assert read_rules("default", [*own, "emoji=true"]).cleaning_sha256 != before
    words.write_text("坏人")
    assert read_rules("default", own).cleaning_sha256 != before
