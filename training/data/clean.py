"""The rules that turn raw LCCC utterances into text as people write it, and their tally.

Every rule is a pure function. LCCC comes split by spaces, between characters in the original
files and between words on the Hub; a current tokenizer would see another language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from training.data.dialogue import Dialogue, RawDialogue, Role

RULES_VERSION = 2

MIN_UTTERANCES = 2

# How many dialogues of a file decide whether it is pre-spaced, and the share of neighbouring
# Chinese characters with a space between them above which it is. Character-separated files have
# 1.0 and word-separated ones about 0.6 (words of 1.6 characters); people leave fewer than 0.2.
SAMPLE_DIALOGUES = 1000
PRE_SPACED_SHARE = 0.4

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_HAN_JOINED = re.compile(f"[{_HAN}](?=[{_HAN}])")
_HAN_SPACED = re.compile(f"[{_HAN}](?= +[{_HAN}])")

# A space parts words only between two of these: letters and digits but those of CJK scripts. It
# is needless elsewhere, after another space, and between two that stand alone (`R a p`).
_WORD = r"[^\W_\u2e80-\u9fff\uf900-\U0010ffff]"
_SPACE = r"[^\S\n]"
_NEEDLESS_SPACE = re.compile(
    rf"(?<!{_WORD}){_SPACE}++|{_SPACE}++(?!{_WORD})|(?<=(?<!\S){_WORD}){_SPACE}++(?={_WORD}(?!\S))"
)

# Control characters but tab and line feed, invisible marks of direction and width (the joiners
# U+200C and U+200D stay: emoji are built with them), and halves of broken surrogate pairs.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]"
)


class Rule(msgspec.Struct, frozen=True):
    """A cleaning rule, what it removes, and what came of it.

    It changes or drops utterances, or drops dialogues.
    """

    name: str
    description: str
    utterances_changed: int = 0
    utterances_dropped: int = 0
    dialogues_dropped: int = 0

    def plus(self, other: Rule) -> Rule:
        """The same rule with the counts of both."""
        return msgspec.structs.replace(
            self,
            utterances_changed=self.utterances_changed + other.utterances_changed,
            utterances_dropped=self.utterances_dropped + other.utterances_dropped,
            dialogues_dropped=self.dialogues_dropped + other.dialogues_dropped,
        )


class CleaningReport(msgspec.Struct, frozen=True):
    """What came of the dialogues read. ``changed`` counts the kept ones that a rule touched."""

    version: int
    read: int
    kept: int
    changed: int
    dropped: int
    rules: tuple[Rule, ...]

    @classmethod
    def over(cls, reports: Iterable[CleaningReport]) -> CleaningReport:
        """The sum of reports on parts of the data; of none, that of an idle cleaner."""
        total = Cleaner().report()
        for report in reports:
            total = cls(
                version=total.version,
                read=total.read + report.read,
                kept=total.kept + report.kept,
                changed=total.changed + report.changed,
                dropped=total.dropped + report.dropped,
                rules=tuple(
                    one.plus(other) for one, other in zip(total.rules, report.rules, strict=True)
                ),
            )
        return total


RULES = (
    Rule("control", "control characters, invisible marks"),
    Rule("spacing", "needless spaces of pre-spaced text"),
    Rule("trim", "white space at both ends"),
    Rule("empty", "utterances with nothing left"),
    Rule("speakers", "tools, and what no reply of the assistant follows, where roles are given"),
    Rule("short", f"dialogues of under {MIN_UTTERANCES} utterances"),
)


def remove_control(text: str) -> str:
    """``text`` without characters that no one can see or that no file can hold."""
    return _CONTROL.sub("", text)


def join_spaced(text: str) -> str:
    """Undo the spaces of pre-spaced text.

    A space stays only between two Latin words or numbers. A run of single letters or digits
    (``R a p``, ``2 0 0 4``) is one word: where words met inside it can no longer be told.
    """
    return _NEEDLESS_SPACE.sub("", text)


def trim(text: str) -> str:
    """``text`` without white space at its ends."""
    return text.strip()


def looks_pre_spaced(dialogues: Iterable[Sequence[str]]) -> bool:
    """Whether spaces stand between the characters or words of these dialogues throughout."""
    joined = spaced = 0
    for utterances in dialogues:
        for text in utterances:
            joined += len(_HAN_JOINED.findall(text))
            spaced += len(_HAN_SPACED.findall(text))
    return spaced > PRE_SPACED_SHARE * (spaced + joined)


class Cleaner:
    """Applies the rules to dialogues and keeps the tally."""

    def __init__(self) -> None:
        self._changed = dict.fromkeys((rule.name for rule in RULES), 0)
        self._utterances_dropped = dict.fromkeys(self._changed, 0)
        self._dialogues_dropped = dict.fromkeys(self._changed, 0)
        self._read = self._dialogues_changed = 0

    def clean(self, raw: RawDialogue, *, pre_spaced: bool) -> Dialogue | None:
        """The cleaned dialogue, or ``None`` where too little of it is left."""
        self._read += 1
        if raw.fault:
            self._dialogues_dropped["speakers"] += 1
            return None
        texts = [self._clean_text(text, pre_spaced) for text in raw.utterances]
        if raw.roles is None:
            kept = [text for text in texts if text]
        else:
            kept = self._taking_turns(texts, raw.roles)
        self._utterances_dropped["empty"] += texts.count("")
        if len(kept) < MIN_UTTERANCES:
            self._dialogues_dropped["short"] += 1
            return None
        self._dialogues_changed += kept != list(raw.utterances)
        return Dialogue(kept, raw.system, raw.roles is not None)

    def _taking_turns(self, texts: Sequence[str], roles: Sequence[Role]) -> list[str]:
        """What two speakers say in turn, the assistant last; lines of one speaker are joined."""
        turns: list[tuple[Role, str]] = []
        for role, text in zip(roles, texts, strict=True):
            if text and turns and turns[-1][0] == role:
                turns[-1] = (role, f"{turns[-1][1]}\n{text}")
            elif text:
                turns.append((role, text))
        if turns and turns[-1][0] == "user":
            turns.pop()
            self._utterances_dropped["speakers"] += 1
        return [text for _, text in turns]

    def _clean_text(self, text: str, pre_spaced: bool) -> str:
        text = self._apply("control", text, remove_control(text))
        if pre_spaced:
            text = self._apply("spacing", text, join_spaced(text))
        return self._apply("trim", text, trim(text))

    def _apply(self, rule: str, before: str, after: str) -> str:
        self._changed[rule] += before != after
        return after

    def report(self) -> CleaningReport:
        """The tally so far."""
        rules = tuple(
            msgspec.structs.replace(
                rule,
                utterances_changed=self._changed[rule.name],
                utterances_dropped=self._utterances_dropped[rule.name],
                dialogues_dropped=self._dialogues_dropped[rule.name],
            )
            for rule in RULES
        )
        dropped = sum(self._dialogues_dropped.values())
        return CleaningReport(
            version=RULES_VERSION,
            read=self._read,
            kept=self._read - dropped,
            changed=self._dialogues_changed,
            dropped=dropped,
            rules=rules,
        )
