"""What the cleaning did: counts and examples, rule by rule, addable over parts of the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from training.data.text import with_halves_shown

# How many examples of each rule's work are kept, and how much of a text one shows.
EXAMPLES = 3
EXAMPLE_CHARACTERS = 200


class Sample(msgspec.Struct, frozen=True):
    """A text before and after a rule; ``None`` after where it was dropped.

    A dialogue is shown with its utterances parted by `` / ``, and half of a surrogate pair, which
    no file can hold, as U+FFFD.
    """

    before: str
    after: str | None = None


class Rule(msgspec.Struct, frozen=True):
    """A cleaning rule, what it does, and what came of it.

    It changes or drops utterances, or drops dialogues. ``is_on`` is whether it was applied.
    """

    name: str
    description: str
    is_on: bool = True
    utterances_changed: int = 0
    utterances_dropped: int = 0
    dialogues_dropped: int = 0
    examples: tuple[Sample, ...] = ()

    def plus(self, other: Rule) -> Rule:
        """The same rule with the counts of both and the first examples."""
        return msgspec.structs.replace(
            self,
            utterances_changed=self.utterances_changed + other.utterances_changed,
            utterances_dropped=self.utterances_dropped + other.utterances_dropped,
            dialogues_dropped=self.dialogues_dropped + other.dialogues_dropped,
            examples=(*self.examples, *other.examples)[:EXAMPLES],
        )


class CleaningReport(msgspec.Struct, frozen=True):
    """What came of the dialogues read. ``changed`` counts the kept ones that a rule touched."""

    version: int
    read: int
    kept: int
    changed: int
    dropped: int
    rules: tuple[Rule, ...]

    def plus(self, other: CleaningReport) -> CleaningReport:
        """The report on both parts of the data, this one's first."""
        return CleaningReport(
            version=self.version,
            read=self.read + other.read,
            kept=self.kept + other.kept,
            changed=self.changed + other.changed,
            dropped=self.dropped + other.dropped,
            rules=tuple(
                one.plus(another) for one, another in zip(self.rules, other.rules, strict=True)
            ),
        )


class Tally:
    """Counts what is done to dialogues and keeps the first examples of each rule."""

    def __init__(self, version: int, rules: Iterable[Rule]) -> None:
        self._version = version
        self._rules = {rule.name: rule for rule in rules}
        self._utterances_changed = dict.fromkeys(self._rules, 0)
        self._utterances_dropped = dict.fromkeys(self._rules, 0)
        self._dialogues_dropped = dict.fromkeys(self._rules, 0)
        self._examples: dict[str, list[Sample]] = {name: [] for name in self._rules}
        self.read = self.changed = 0

    def change(self, rule: str, before: str, after: str) -> None:
        """An utterance was changed, or a system prompt, which counts as one."""
        self._utterances_changed[rule] += 1
        self._show(rule, before, after)

    def drop_utterance(self, rule: str, text: str) -> None:
        self._utterances_dropped[rule] += 1
        self._show(rule, text)

    def drop_dialogue(self, rule: str, utterances: Sequence[str]) -> None:
        self._dialogues_dropped[rule] += 1
        self._show(rule, shown(utterances))

    def report(self) -> CleaningReport:
        """The tally so far."""
        dropped = sum(self._dialogues_dropped.values())
        rules = tuple(
            msgspec.structs.replace(
                rule,
                utterances_changed=self._utterances_changed[name],
                utterances_dropped=self._utterances_dropped[name],
                dialogues_dropped=self._dialogues_dropped[name],
                examples=tuple(self._examples[name]),
            )
            for name, rule in self._rules.items()
        )
        kept = self.read - dropped
        return CleaningReport(self._version, self.read, kept, self.changed, dropped, rules)

    def _show(self, rule: str, before: str, after: str | None = None) -> None:
        examples = self._examples[rule]
        if len(examples) < EXAMPLES:
            cut = _beginning(after) if after is not None else None
            examples.append(Sample(_beginning(before), cut))


def _beginning(text: str) -> str:
    """As much of ``text`` as an example shows."""
    return with_halves_shown(text[:EXAMPLE_CHARACTERS])


def shown(utterances: Sequence[str]) -> str:
    """A dialogue in one line."""
    return " / ".join(utterances)[:EXAMPLE_CHARACTERS]
