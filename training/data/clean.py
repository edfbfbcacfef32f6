"""The cleaner: applies the rules to dialogues, one at a time, and keeps the tally."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from training.data import text
from training.data.dialogue import Dialogue, RawDialogue, Role
from training.data.report import CleaningReport, Rule, Tally
from training.data.rules import LoadedRules, Rules
from training.data.words import letters_of

RULES_VERSION = 4

TextRule = Callable[[str], str]
Turn = tuple[Role | None, str]


def described(rules: Rules) -> tuple[Rule, ...]:
    """Every rule in the order in which they are applied, with whether it is on."""
    on, kinds = rules.text, rules.utterances
    whole, shortest = rules.dialogues, rules.replies.min_characters
    fewest, alike = whole.min_utterances, whole.near_duplicates
    return (
        Rule("control", "control characters, invisible marks", on.control),
        Rule("spacing", "needless spaces of pre-spaced text", on.spacing != "never"),
        Rule("platform", "mentions, reposts, topics, links, [图片]", on.platform),
        Rule("emoji", "emoji and their names in brackets", on.emoji),
        Rule("orphans", "punctuation whose words are gone", on.orphans),
        Rule("width", "letters in full width, Chinese punctuation in half", on.width),
        Rule("elongation", f"sounds more than {on.elongation} times", on.elongation > 0),
        Rule("trim", "white space at both ends", on.trim),
        Rule("empty", "utterances with nothing left"),
        Rule("notices", "notices of the platform", kinds.notices),
        Rule("abuse", "utterances with insults", kinds.abuse),
        Rule("generic", "last replies that answer anything", rules.replies.generic),
        Rule("brief", f"last replies of under {shortest} characters", shortest > 0),
        Rule("speakers", "tools, and what no reply follows, where roles are given"),
        Rule("short", f"dialogues of under {fewest} utterances"),
        Rule("duplicates", "dialogues that are there already", alike > 0 or whole.duplicates),
        Rule("near_duplicates", f"dialogues alike by {alike:g} or more", alike > 0),
        Rule("leaks", "dialogues of training that validation or test has", whole.leaks),
    )


class Cleaner:
    """Applies ``loaded`` rules to dialogues and keeps the tally.

    An utterance that cannot be part of a dialogue is never taken out of its middle, where the next
    one would then answer the wrong one: the longest part without such utterances stays.
    """

    def __init__(self, loaded: LoadedRules | None = None) -> None:
        self._loaded = loaded or LoadedRules()
        self._rules = self._loaded.rules
        self._tally = Tally(RULES_VERSION, described(self._rules))
        self._plain = tuple(self._text_rules(pre_spaced=False))
        self._spaced = tuple(self._text_rules(pre_spaced=True))

    def clean(self, raw: RawDialogue, *, pre_spaced: bool) -> Dialogue | None:
        """The cleaned dialogue, or ``None`` where too little of it is left."""
        self._tally.read += 1
        if raw.fault:
            self._tally.drop_dialogue("speakers", [raw.fault])
            return None
        rules = self._spaced if pre_spaced else self._plain
        texts = [self._clean_text(utterance, rules) for utterance in raw.utterances]
        system = self._clean_system(raw.system)
        if raw.roles is None and self._are_all_fine(texts):
            self._tally.changed += texts != raw.utterances or system != raw.system
            return Dialogue(texts, system)
        roles: Sequence[Role | None] = raw.roles or [None] * len(texts)
        turns = list(zip(roles, texts, strict=True))
        part, cause = self._longest_part(turns)
        if raw.roles is not None:
            part, cause = self._taking_turns(part, cause)
        part, cause = self._without_poor_end(part, cause)
        if len(part) < self._rules.dialogues.min_utterances:
            self._tally.drop_dialogue(cause or "short", raw.utterances)
            return None
        kept = [said for _, said in part]
        self._tally.changed += kept != list(raw.utterances) or system != raw.system
        return Dialogue(kept, system, raw.roles is not None)

    def report(self) -> CleaningReport:
        """The tally so far."""
        return self._tally.report()

    def _text_rules(self, *, pre_spaced: bool) -> Iterator[tuple[str, TextRule]]:
        """The text rules that are on, in order."""
        on = self._rules.text
        is_spaced = on.spacing == "always" or (on.spacing == "auto" and pre_spaced)
        shorten = partial(text.shorten_elongation, most=on.elongation)
        for name, is_on, rule in (
            ("control", on.control, text.remove_control),
            ("spacing", is_spaced, text.join_spaced),
            ("platform", on.platform, text.remove_platform),
            ("emoji", on.emoji, text.remove_emoji),
            ("orphans", on.orphans, text.remove_orphans),
            ("width", on.width, text.fold_width),
            ("elongation", on.elongation > 0, shorten),
            ("trim", on.trim, text.trim),
        ):
            if is_on:
                yield name, rule

    def _are_all_fine(self, texts: Sequence[str]) -> bool:
        """Whether no rule finds fault with any of ``texts``, as with nearly all: the short way."""
        return (
            len(texts) >= self._rules.dialogues.min_utterances
            and not any(map(self._unusable, texts))
            and self._poor(texts[-1]) is None
        )

    def _clean_text(self, utterance: str, rules: Sequence[tuple[str, TextRule]]) -> str:
        for name, rule in rules:
            after = rule(utterance)
            if after is not utterance and after != utterance:
                self._tally.change(name, utterance, after)
                utterance = after
        return utterance

    def _clean_system(self, system: str | None) -> str | None:
        """Whoever wrote a system prompt meant it: it loses what cannot be stored and no more."""
        if system is None or not self._rules.text.control:
            return system
        after = text.remove_halves(system)
        if after != system:
            self._tally.change("control", system, after)
        return after or None

    def _unusable(self, utterance: str) -> str | None:
        """The rule that finds ``utterance`` to be no part of a dialogue."""
        if not utterance or utterance.isspace():
            return "empty"
        if self._loaded.notices and self._loaded.notices.is_in(utterance):
            return "notices"
        if self._loaded.abuse and self._loaded.abuse.is_in(utterance):
            return "abuse"
        return None

    def _longest_part(self, turns: Sequence[Turn]) -> tuple[list[Turn], str | None]:
        """The longest run of usable turns (the first of equals), and the rule that cut it off."""
        cause: str | None = None
        longest: list[Turn] = []
        part: list[Turn] = []
        for turn in turns:
            rule = self._unusable(turn[1])
            if rule is None:
                part.append(turn)
                continue
            self._tally.drop_utterance(rule, turn[1])
            cause = cause or rule
            longest, part = max(longest, part, key=len), []
        return max(longest, part, key=len), cause

    def _taking_turns(
        self, turns: Sequence[Turn], cause: str | None
    ) -> tuple[list[Turn], str | None]:
        """Two speakers in turn, the assistant last; lines of one speaker are joined."""
        joined: list[Turn] = []
        for role, said in turns:
            if joined and joined[-1][0] == role:
                joined[-1] = (role, f"{joined[-1][1]}\n{said}")
            else:
                joined.append((role, said))
        if joined and joined[-1][0] == "user":
            self._tally.drop_utterance("speakers", joined.pop()[1])
            cause = cause or "speakers"
        return joined, cause

    def _without_poor_end(
        self, turns: list[Turn], cause: str | None
    ) -> tuple[list[Turn], str | None]:
        """``turns`` up to the last that is worth a reply's place; its question goes with a reply.

        Where no roles are given, the utterance before a dropped one is the next to be a reply.
        """
        while turns and (rule := self._poor(turns[-1][1])):
            self._tally.drop_utterance(rule, turns.pop()[1])
            cause = cause or rule
            if turns and turns[-1][0] == "user":
                turns.pop()
        return turns, cause

    def _poor(self, reply: str) -> str | None:
        """The rule that finds ``reply`` not worth learning."""
        generic, shortest = self._loaded.generic, self._rules.replies.min_characters
        if generic is None and not shortest:
            return None
        letters = letters_of(reply)
        if generic is not None and (not letters or generic.is_all_of(letters)):
            return "generic"
        return "brief" if len(letters) < shortest else None
