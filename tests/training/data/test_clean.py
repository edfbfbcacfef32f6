"""Cleaning: which rules are applied to a dialogue, what is left of it, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.data.test_text import TEXT
from training.data.clean import RULES_VERSION, Cleaner, described
from training.data.dialogue import Dialogue, RawDialogue, Role
from training.data.report import EXAMPLE_CHARACTERS, EXAMPLES, Rule, Sample
from training.data.rules import LoadedRules, read_rules

USER: Role = "user"
ASSISTANT: Role = "assistant"


def cleaned_by(
    cleaner: Cleaner, utterances: list[str], *, pre_spaced: bool = False
) -> list[str] | None:
    dialogue = cleaner.clean(RawDialogue(utterances), pre_spaced=pre_spaced)
    return dialogue and dialogue.utterances


def with_rules(*overrides: str) -> Cleaner:
    return Cleaner(read_rules("default", overrides))


def effects(cleaner: Cleaner) -> dict[str, tuple[int, int, int]]:
    """What the rules did that did anything: utterances changed and dropped, dialogues dropped."""
    found = {
        rule.name: (rule.utterances_changed, rule.utterances_dropped, rule.dialogues_dropped)
        for rule in cleaner.report().rules
    }
    return {name: counts for name, counts in found.items() if any(counts)}


def test_text_that_is_not_pre_spaced_keeps_its_spaces() -> None:
    """A cleaner told so leaves every inner space alone."""
    dialogue = ["我用 iPhone 7 拍的 a b", "plan B  好"]
    assert cleaned_by(Cleaner(), dialogue, pre_spaced=False) == dialogue


def test_the_report_counts_every_rule() -> None:
    """Utterances changed and dropped, and dialogues by the rule that is to blame."""
    cleaner = Cleaner()
    assert cleaned_by(cleaner, ["吃 了 吗", "吃\x00了 ", " \x00 "], pre_spaced=True) == [
        "吃了吗",
        "吃了",
    ]
    assert cleaned_by(cleaner, ["在", "嗯"], pre_spaced=True) == ["在", "嗯"]
    assert cleaned_by(cleaner, ["在", "\u200b"], pre_spaced=True) is None
    assert cleaned_by(cleaner, []) is None
    assert cleaned_by(cleaner, [" a b ", "c"]) == ["a b", "c"]
    report = cleaner.report()
    assert report.version == RULES_VERSION
    assert (report.read, report.kept, report.changed, report.dropped) == (5, 3, 2, 2)
    assert effects(cleaner) == {
        "control": (3, 0, 0),
        "spacing": (3, 0, 0),
        "trim": (1, 0, 0),
        "empty": (0, 2, 1),
        "short": (0, 0, 1),
    }


def test_the_report_shows_the_first_examples() -> None:
    """Before and after; of what was dropped, and of whole dialogues, in one line, none too long."""
    cleaner = Cleaner()
    for number in range(EXAMPLES + 1):
        cleaned_by(cleaner, [f" {number}", "\x00" * 500])
    cleaned_by(cleaner, ["x" * 500])
    rules = {rule.name: rule.examples for rule in cleaner.report().rules}
    assert rules["trim"] == tuple(Sample(f" {n}", str(n)) for n in range(EXAMPLES))
    assert rules["control"][0] == Sample("\x00" * EXAMPLE_CHARACTERS, "")
    assert rules["empty"][:2] == (Sample(""), Sample(" 0 / " + "\x00" * (EXAMPLE_CHARACTERS - 5)))
    assert rules["short"] == (Sample("x" * EXAMPLE_CHARACTERS),)


def test_reports_on_parts_add_up_to_that_on_the_whole() -> None:
    """Counts are sums, and the examples are the first in the order of the parts."""
    dialogues = [[" a", "b "], ["\x00c", "d"], ["e"], ["f", " "], [" g", "h"], [" i", "j"]]
    whole, *parts = Cleaner(), Cleaner(), Cleaner()
    for index, dialogue in enumerate(dialogues):
        cleaned_by(whole, dialogue)
        cleaned_by(parts[index >= 3], dialogue)
    assert parts[0].report().plus(parts[1].report()) == whole.report()


EVERY_RULE: dict[str, tuple[str, list[str], list[str] | None]] = {
    "control": ("control", ["a\x00", "b"], ["a", "b"]),
    "platform": ("platform=true", ["@小明 在吗", "在"], ["在吗", "在"]),
    "emoji": ("emoji=true", ["在吗😂", "在"], ["在吗", "在"]),
    "orphans": ("orphans=true", ["，在吗", "在"], ["在吗", "在"]),
    "width": ("width=true", ["在吗?", "在"], ["在吗？", "在"]),
    "elongation": ("elongation=2", ["哈哈哈", "在"], ["哈哈", "在"]),
    "trim": ("trim", [" a", "b"], ["a", "b"]),
    "notices": ("notices=true", ["在", "转发微博", "早", "早啊", "嗯"], ["早", "早啊", "嗯"]),
    "abuse": ("abuse=true", ["早", "早啊", "傻 逼", "嗯"], ["早", "早啊"]),
    "generic": ("generic=true", ["早", "早啊", "去哪", "哈哈哈！"], ["早", "早啊", "去哪"]),
    "brief": ("min_characters=2", ["早", "早啊", "去！"], ["早", "早啊"]),
    "short": ("min_utterances=3", ["a", "b"], None),
}


@pytest.mark.parametrize(("rule", "case"), EVERY_RULE.items(), ids=EVERY_RULE)
def test_every_rule_can_be_switched(rule: str, case: tuple[str, list[str], Any]) -> None:
    """It works when on and is counted; off, the dialogue stays as it is and nothing is counted."""
    setting, raw, cleaned = case
    name, _, value = setting.partition("=")
    on = with_rules(setting) if value else with_rules()
    off = with_rules() if value else with_rules(f"{name}=false")
    assert cleaned_by(on, raw) == cleaned
    assert list(effects(on)) == [rule]
    assert cleaned_by(off, raw) == raw
    assert effects(off) == {}
    switched = {one.name: one.is_on for one in off.report().rules}
    assert switched[rule] is (rule == "short")


@pytest.mark.parametrize(("mode", "pre_spaced", "joined"), [
    ("auto", True, True), ("auto", False, False), ("always", False, True), ("never", True, False),
])  # fmt: skip
def test_spacing_is_by_file_or_as_told(mode: str, pre_spaced: bool, joined: bool) -> None:
    """`auto` goes by what the file looks like; the other two do not."""
    cleaned = cleaned_by(with_rules(f"spacing={mode}"), ["早 安", "嗯 嗯"], pre_spaced=pre_spaced)
    assert cleaned == (["早安", "嗯嗯"] if joined else ["早 安", "嗯 嗯"])


def test_an_unusable_utterance_never_lets_its_neighbours_meet() -> None:
    """Who answers whom must stay true: the longest part stays, the first of equally long ones."""
    cleaner = Cleaner()
    assert cleaned_by(cleaner, ["a", "b", " ", "c", "d", "e", "", "f"]) == ["c", "d", "e"]
    assert cleaned_by(cleaner, ["a", "b", " ", "c", "d"]) == ["a", "b"]
    assert cleaned_by(cleaner, ["a", " ", "b"]) is None
    assert effects(cleaner)["empty"] == (0, 4, 1)


def test_poor_replies_go_until_one_is_worth_it() -> None:
    """What is left may be too short; punctuation and emoji alone are generic, long texts never."""
    cleaner = with_rules("generic=true", "min_characters=2")
    assert cleaned_by(cleaner, ["早", "去哪", "去上班", "哦", "……", "😂", "嗯嗯嗯"]) == [
        "早",
        "去哪",
        "去上班",
    ]
    assert cleaned_by(cleaner, ["在吗", "哈"]) is None
    assert effects(cleaner) == {"generic": (0, 5, 1)}


def messages(*turns: tuple[Role, str], system: str | None = None) -> RawDialogue:
    return RawDialogue([text for _, text in turns], [role for role, _ in turns], system)


def test_given_roles_are_kept_and_take_turns() -> None:
    """Lines of one speaker are joined, and what no reply of the assistant follows goes."""
    cleaner = Cleaner()
    raw = messages(
        (ASSISTANT, "你好"),
        (USER, "在"),
        (USER, "吗 "),
        (ASSISTANT, "在"),
        (USER, "好"),
        system="猫",
    )
    assert cleaner.clean(raw, pre_spaced=False) == Dialogue(["你好", "在\n吗", "在"], "猫", True)
    assert cleaner.clean(messages((USER, "在吗"), (USER, "喂")), pre_spaced=False) is None
    assert cleaner.clean(RawDialogue([], fault="tools"), pre_spaced=False) is None
    assert effects(cleaner) == {"trim": (1, 0, 0), "speakers": (0, 2, 2)}


def test_a_poor_reply_takes_its_question_along() -> None:
    """Where roles are given, a dialogue without it ends on the reply before."""
    cleaner = with_rules("generic=true")
    raw = messages((USER, "在吗"), (ASSISTANT, "在的呀"), (USER, "好"), (ASSISTANT, "嗯"))
    assert cleaner.clean(raw, pre_spaced=False) == Dialogue(["在吗", "在的呀"], None, True)


def test_a_broken_dialogue_with_roles_ends_on_a_reply() -> None:
    """Also where the part that stays ended on the user."""
    raw = messages((USER, "a"), (ASSISTANT, "b"), (USER, "c"), (ASSISTANT, " "), (USER, "d"))
    assert Cleaner().clean(raw, pre_spaced=False) == Dialogue(["a", "b"], None, True)


def test_the_default_rules_are_the_defaults_in_code() -> None:
    """So a cleaner without rules does what `data prepare` does without options."""
    assert LoadedRules() == read_rules()
    assert described(read_rules().rules)[0] == Rule(
        "control", "control characters, invisible marks", is_on=True
    )


@given(st.lists(TEXT, max_size=5), st.booleans())
def test_a_cleaned_dialogue_is_clean(utterances: list[str], pre_spaced: bool) -> None:
    """Cleaning the result again, as what it now is, changes and drops nothing."""
    cleaned = cleaned_by(Cleaner(), utterances, pre_spaced=pre_spaced)
    if cleaned is not None:
        again = Cleaner()
        assert cleaned_by(again, cleaned, pre_spaced=False) == cleaned
        assert cleaned_by(again, cleaned, pre_spaced=pre_spaced) == cleaned
        assert again.report().changed == 0


STRICT = read_rules("lccc", ["emoji=true", "min_characters=2"])


@given(st.lists(TEXT, max_size=5), st.booleans())
def test_no_text_breaks_the_strict_rules(utterances: list[str], pre_spaced: bool) -> None:
    """Whatever is in it, what is kept is whole utterances, and every dialogue is counted once."""
    cleaner = Cleaner(STRICT)
    cleaned = cleaned_by(cleaner, utterances, pre_spaced=pre_spaced)
    report = cleaner.report()
    assert (report.read, report.kept) == (1, int(cleaned is not None))
    assert cleaned is None or (len(cleaned) >= 2 and all(text.strip() for text in cleaned))
