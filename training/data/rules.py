"""Which cleaning rules hold, as one frozen value read from TOML like a recipe.

They belong to a dataset and not to a recipe because cleaning happens once, when the data is
prepared: its report, its splits and its hashes are about the text that the rules left. What each
field does stands beside it in the default rules, ``training/rules/default.toml``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from training.data.words import WordList, read_words
from training.errors import DataError
from training.settings import Section, SettingsFiles

RULES = Path(__file__).parents[1] / "rules"
DEFAULT_RULES = "default"

Times = Annotated[int, msgspec.Meta(ge=0)]
Likeness = Annotated[float, msgspec.Meta(ge=0, le=1)]


class TextRules(Section, frozen=True, kw_only=True):
    """What changes the text of an utterance."""

    control: bool = True
    spacing: Literal["auto", "always", "never"] = "auto"
    platform: bool = False
    emoji: bool = False
    orphans: bool = False
    width: bool = False
    elongation: Times = 0
    trim: bool = True


class UtteranceRules(Section, frozen=True, kw_only=True):
    """What finds utterances that cannot be part of a dialogue."""

    notices: bool = False
    notice_words: str = "notices"
    abuse: bool = False
    abuse_words: str = "abuse"


class ReplyRules(Section, frozen=True, kw_only=True):
    """What finds last utterances that are not worth learning."""

    generic: bool = False
    generic_words: str = "generic"
    min_characters: Times = 0


class DialogueRules(Section, frozen=True, kw_only=True):
    """What finds dialogues that are too short, or there already."""

    min_utterances: Annotated[int, msgspec.Meta(ge=2)] = 2
    duplicates: bool = False
    near_duplicates: Likeness = 0.0
    leaks: bool = True


class Rules(Section, frozen=True, kw_only=True):
    """All cleaning rules as one value."""

    text: TextRules = TextRules()
    utterances: UtteranceRules = UtteranceRules()
    replies: ReplyRules = ReplyRules()
    dialogues: DialogueRules = DialogueRules()


class LoadedRules(msgspec.Struct, frozen=True):
    """Rules with the lists of words that they need."""

    rules: Rules = Rules()
    notices: WordList | None = None
    abuse: WordList | None = None
    generic: WordList | None = None

    @classmethod
    def load(cls, rules: Rules) -> LoadedRules:
        """Read the lists that ``rules`` name and use.

        Raises:
            DataError: there is no such list.
        """
        utterances, replies = rules.utterances, rules.replies
        return cls(
            rules,
            read_words(utterances.notice_words) if utterances.notices else None,
            read_words(utterances.abuse_words) if utterances.abuse else None,
            read_words(replies.generic_words, whole=True) if replies.generic else None,
        )

    @property
    def word_lists(self) -> dict[str, str]:
        """The hash of each list by the rule that uses it."""
        lists = {"notices": self.notices, "abuse": self.abuse, "generic": self.generic}
        return {rule: words.sha256 for rule, words in lists.items() if words}

    @property
    def cleaning_sha256(self) -> str:
        """Hex SHA-256 over all that decides what becomes of a dialogue taken by itself."""
        settings = [self.rules.text, self.rules.utterances, self.rules.replies]
        content = [settings, self.rules.dialogues.min_utterances, self.word_lists]
        return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


_FILES = SettingsFiles(Rules, "rules", RULES, DataError)


def read_rules(source: str | Path = DEFAULT_RULES, overrides: Sequence[str] = ()) -> LoadedRules:
    """Bundled rules by name or a TOML file, with ``key=value`` overrides, and their word lists.

    Raises:
        DataError: unreadable, an unknown field, a value out of range, or a list that is not there.
    """
    return LoadedRules.load(_FILES.read(source, overrides))
