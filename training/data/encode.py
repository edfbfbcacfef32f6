"""Dialogues as token sequences with the loss on the assistant's replies, exact by construction.

A sequence is put together from the two functions the server uses too: the prompt it would render
before a reply, and the reply as the model would generate it. Nothing is searched for in text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from jinja2 import TemplateError

from adapters.prompt import render_prompt, render_reply
from training.data.roles import Turn, assign_roles
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Cut(StrEnum):
    """What had to go so that a sequence fits; each includes the ones before it."""

    NOTHING = "nothing"
    TURNS = "turns"  # whole exchanges, the oldest first
    PROMPT = "prompt"  # the beginning of the last user's text
    REPLY = "reply"  # the end of the last reply, and with it the end marker


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: token ids, and which of them the model should learn to produce.

    Position ``i`` is learnt from positions before ``i``; no shift is applied here. ``dropped`` is
    how many utterances of the dialogue are missing at its beginning.
    """

    ids: list[int]
    is_target: list[bool]
    cut: Cut = Cut.NOTHING
    dropped: int = 0

    @property
    def targets(self) -> int:
        """How many tokens bear a loss."""
        return sum(self.is_target)

    @property
    def replies(self) -> int:
        """How many replies bear a loss; template tokens lie between any two."""
        starts = sum(is_target and not before for before, is_target in pairwise(self.is_target))
        return starts + self.is_target[0]


class EncodeReport(msgspec.Struct, frozen=True):
    """What came of encoding ``dialogues``: sequences, replies with loss, tokens, and the cuts."""

    dialogues: int
    examples: int
    replies: int
    tokens: int
    target_tokens: int
    longest: int
    cut: dict[str, int]
    utterances_dropped: int

    @classmethod
    def over(cls, dialogues: int, examples: Sequence[Example]) -> EncodeReport:
        """Count ``examples``, which were made of that many dialogues."""
        lengths = [len(example.ids) for example in examples]
        return cls(
            dialogues=dialogues,
            examples=len(examples),
            replies=sum(example.replies for example in examples),
            tokens=sum(lengths),
            target_tokens=sum(example.targets for example in examples),
            longest=max(lengths, default=0),
            cut={cut.value: sum(example.cut is cut for example in examples) for cut in Cut},
            utterances_dropped=sum(example.dropped for example in examples),
        )


def encode_dialogues(
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Iterable[Sequence[str]],
    *,
    system_prompt: str | None,
    max_length: int,
) -> tuple[list[Example], EncodeReport]:
    """The examples of all ``dialogues`` in order, and the count of them.

    Raises:
        DataError: as :func:`encode_dialogue`.
    """
    examples: list[Example] = []
    count = 0
    for utterances in dialogues:
        count += 1
        examples += encode_dialogue(
            tokenizer, utterances, system_prompt=system_prompt, max_length=max_length
        )
    return examples, EncodeReport.over(count, examples)


def encode_dialogue(
    tokenizer: PreTrainedTokenizerBase,
    utterances: Sequence[str],
    *,
    system_prompt: str | None,
    max_length: int,
) -> list[Example]:
    """The examples of one dialogue, each of ``max_length`` ids at most; none if it has no reply.

    One sequence teaches all replies where the template renders a conversation as the beginning of
    every longer one. Elsewhere (Qwen3's opens the next reply, but no past one, with an empty
    think block) each reply gets its own, so that its prompt is the one the server will render.

    What is too long keeps its end: the oldest exchanges go, then the beginning of the last user's
    text (all but one character), then the end of the reply, whose end marker then goes unlearnt.
    Where the template refuses a conversation begun by the assistant, that utterance goes first.

    Raises:
        DataError: the template refuses the conversation, or leaves no room for a reply.
    """
    encoder = _Encoder(tokenizer, system_prompt, max_length)
    turns = assign_roles(utterances)
    try:
        whole = encoder.exchanges(turns)
    except DataError:
        if turns[0].role == "user":
            raise
        turns = turns[1:]
        whole = encoder.exchanges(turns)
    if not whole:
        return []
    in_one = encoder.fit_in_one(turns, whole)
    fitted = [in_one] if in_one else encoder.fit_one_by_one(turns)
    return [_example(part, refused=len(utterances) - len(turns)) for part in fitted]


class _Exchange(NamedTuple):
    """A reply and the prompt it answers, as token ids."""

    prompt: list[int]
    reply: list[int]

    @property
    def ids(self) -> list[int]:
        return self.prompt + self.reply


class _Fitted(NamedTuple):
    """The end of a conversation that fits, and the exchanges in it that bear a loss."""

    turns: Sequence[Turn]
    exchanges: Sequence[_Exchange]
    cut: Cut = Cut.NOTHING
    dropped: int = 0


class _Encoder:
    """A tokenizer with the conditions it works under."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, system_prompt: str | None, max_length: int
    ) -> None:
        self._tokenizer = tokenizer
        self._system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        self._max_length = max_length

    def exchanges(self, turns: Sequence[Turn]) -> list[_Exchange]:
        """Every reply in ``turns`` with its prompt."""
        return [
            self.exchange(turns[: index + 1]) for index, turn in enumerate(turns) if turn.is_reply
        ]

    def exchange(self, turns: Sequence[Turn]) -> _Exchange:
        """The last of ``turns``, and all before it as its prompt."""
        messages = [*self._system, *(turn.message for turn in turns[:-1])]
        try:
            prompt = render_prompt(self._tokenizer, messages)
        except TemplateError as error:
            raise DataError(f"the base's chat template refuses the dialogue: {error}") from error
        return _Exchange(prompt, render_reply(self._tokenizer, turns[-1].text))

    def fit_in_one(self, turns: Sequence[Turn], whole: Sequence[_Exchange]) -> _Fitted | None:
        """All exchanges in one sequence, ``None`` where the template does not allow it."""
        if not _is_stable(whole):
            return None
        fitted = self._fit(turns, whole[-1])
        if fitted.cut is Cut.TURNS:
            whole = [*self.exchanges(fitted.turns[:-1]), *fitted.exchanges]
        elif fitted.cut is not Cut.NOTHING:
            whole = fitted.exchanges
        return fitted._replace(exchanges=whole) if _is_stable(whole) else None

    def fit_one_by_one(self, turns: Sequence[Turn]) -> list[_Fitted]:
        """A sequence for every reply, with what goes before it."""
        parts = (turns[: index + 1] for index, turn in enumerate(turns) if turn.is_reply)
        return [self._fit(part, self.exchange(part)) for part in parts]

    def _fit(self, turns: Sequence[Turn], last: _Exchange) -> _Fitted:
        """As many of the newest of ``turns`` as fit; ``last`` is the exchange they end on."""
        if self._fits(last):
            return _Fitted(turns, [last])
        for start in range(1, len(turns) - 1):
            if turns[start].role == "user":
                last = self.exchange(turns[start:])
                if self._fits(last):
                    return _Fitted(turns[start:], [last], Cut.TURNS, start)
        return self._cut_text(turns)

    def _cut_text(self, turns: Sequence[Turn]) -> _Fitted:
        """The last exchange, too long alone, with the longest end of the user's text that fits."""
        user, reply = turns[-2:]
        dropped = len(turns) - 2
        kept, too_many = 1, len(user.text)
        shortened = [user._replace(text=user.text[-1:]), reply]
        fitting = self.exchange(shortened)
        room = self._max_length - len(fitting.prompt)
        if room < 1:
            raise DataError(
                f"a maximum length of {self._max_length} tokens leaves no room for a reply: the "
                f"chat template and the system prompt alone take {len(fitting.prompt)}"
            )
        if room < len(fitting.reply):
            fitting = fitting._replace(reply=fitting.reply[:room])
            return _Fitted(shortened, [fitting], Cut.REPLY, dropped)
        while too_many - kept > 1:
            middle = (kept + too_many) // 2
            candidate = [user._replace(text=user.text[-middle:]), reply]
            exchange = self.exchange(candidate)
            if self._fits(exchange):
                kept, shortened, fitting = middle, candidate, exchange
            else:
                too_many = middle
        return _Fitted(shortened, [fitting], Cut.PROMPT, dropped)

    def _fits(self, exchange: _Exchange) -> bool:
        return len(exchange.ids) <= self._max_length


def _is_stable(exchanges: Sequence[_Exchange]) -> bool:
    """Whether the last prompt begins with every earlier prompt and its reply, token by token."""
    final = exchanges[-1].prompt
    return all(final[: len(earlier.ids)] == earlier.ids for earlier in exchanges[:-1])


def _example(fitted: _Fitted, refused: int) -> Example:
    """One sequence: the last exchange, with the loss on every reply in it."""
    ids = fitted.exchanges[-1].ids
    is_target = [False] * len(ids)
    for prompt, reply in fitted.exchanges:
        is_target[len(prompt) : len(prompt) + len(reply)] = [True] * len(reply)
    return Example(ids, is_target, fitted.cut, refused + fitted.dropped)
