"""Dialogues as token sequences with the loss on the assistant's replies, exact by construction.

A sequence is put together from the two functions the server uses too: the prompt it would render
before a reply, and the reply as the model would generate it. Nothing is searched for in text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from jinja2 import TemplateError

from adapters.prompt import render_prompt, render_reply
from adapters.prompt_batch import BatchRenderer
from training.data.dialogue import Dialogue
from training.data.example import Cut, EncodeReport, Example
from training.data.roles import RolePolicy, Turn, conversations
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Cut",
    "EncodeReport",
    "Encoding",
    "Example",
    "encode_dialogue",
    "encode_dialogues",
]

# How many dialogues are rendered and tokenised together.
BATCH_DIALOGUES = 1000


class Encoding(msgspec.Struct, frozen=True):
    """How dialogues become sequences of at most ``max_length`` ids.

    ``system_prompt`` stands before those that have none of their own.
    """

    system_prompt: str | None
    max_length: int
    roles: RolePolicy = "last-assistant"


def encode_dialogue(
    tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue, encoding: Encoding
) -> list[Example]:
    """The examples of one dialogue; none if it has no reply.

    One sequence teaches all replies where the template renders a conversation as the beginning of
    every longer one. Elsewhere (Qwen3's opens the next reply, but no past one, with an empty
    think block) each reply gets its own, so that its prompt is the one the server will render.

    What is too long keeps its end: the oldest exchanges go, then the beginning of the last user's
    text (all but one character), then the end of the reply, whose end marker then goes unlearnt.
    Where the template refuses a conversation begun by the assistant, that utterance goes first.

    Raises:
        DataError: the template refuses the conversation, or leaves no room for a reply.
    """
    encoder = _Encoder(tokenizer, dialogue.system or encoding.system_prompt, encoding.max_length)
    examples: list[Example] = []
    for turns in conversations(dialogue, encoding.roles):
        examples += _encode_conversation(encoder, turns)
    return examples


def encode_dialogues(
    renderer: BatchRenderer, dialogues: Iterable[Dialogue], encoding: Encoding
) -> Iterator[list[Example]]:
    """The examples of each dialogue in order, as :func:`encode_dialogue` makes them, but quicker.

    Raises:
        DataError: as :func:`encode_dialogue`.
    """
    rest = iter(dialogues)
    while batch := list(islice(rest, BATCH_DIALOGUES)):
        try:
            yield from _encode_batch(renderer, batch, encoding)
        except TemplateError:  # it refuses one of them, or only how one begins
            for dialogue in batch:
                yield encode_dialogue(renderer.tokenizer, dialogue, encoding)


def _encode_batch(
    renderer: BatchRenderer, batch: Sequence[Dialogue], encoding: Encoding
) -> list[list[Example]]:
    """The same for some dialogues together: all is rendered first, then put together."""
    tokenizer = renderer.tokenizer
    encoders = [
        _Encoder(tokenizer, dialogue.system or encoding.system_prompt, encoding.max_length)
        for dialogue in batch
    ]
    all_turns = [conversations(dialogue, encoding.roles) for dialogue in batch]
    asked = [
        (encoder.messages(turns[:index]), turns[index].text)
        for encoder, parts in zip(encoders, all_turns, strict=True)
        for turns in parts
        for index in _replies(turns)
    ]
    prompts, replies = renderer.render([m for m, _ in asked], [text for _, text in asked])
    made = (
        _Exchange(prompt, reply, len(text))
        for prompt, reply, (_, text) in zip(prompts, replies, asked, strict=True)
    )
    return [
        [
            example
            for turns in parts
            for example in _put_together(encoder, turns, list(islice(made, len(_replies(turns)))))
        ]
        for encoder, parts in zip(encoders, all_turns, strict=True)
    ]


def _encode_conversation(encoder: _Encoder, turns: Sequence[Turn]) -> list[Example]:
    try:
        whole = encoder.exchanges(turns)
    except DataError:
        if turns[0].role == "user":
            raise
        turns = turns[1:]
        whole = encoder.exchanges(turns)
        return _put_together(encoder, turns, whole, refused=1)
    return _put_together(encoder, turns, whole)


def _put_together(
    encoder: _Encoder, turns: Sequence[Turn], whole: Sequence[_Exchange], refused: int = 0
) -> list[Example]:
    """The examples of a conversation whose exchanges are ``whole``."""
    if not whole:
        return []
    in_one = encoder.fit_in_one(turns, whole)
    fitted = [in_one] if in_one else encoder.fit_one_by_one(turns, whole)
    return [_example(part, refused) for part in fitted]


def _replies(turns: Sequence[Turn]) -> list[int]:
    """Where the replies that are to be learnt stand."""
    return [index for index, turn in enumerate(turns) if turn.is_reply]


class _Exchange(NamedTuple):
    """A reply and the prompt it answers, as token ids; ``characters`` are the reply's."""

    prompt: list[int]
    reply: list[int]
    characters: int

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

    def messages(self, turns: Sequence[Turn]) -> list[dict[str, str]]:
        """``turns`` after the system prompt, as the template wants them."""
        return [*self._system, *(turn.message for turn in turns)]

    def exchanges(self, turns: Sequence[Turn]) -> list[_Exchange]:
        """Every reply in ``turns`` that is to be learnt, with its prompt."""
        return [self.exchange(turns[: index + 1]) for index in _replies(turns)]

    def exchange(self, turns: Sequence[Turn]) -> _Exchange:
        """The last of ``turns``, and all before it as its prompt."""
        try:
            prompt = render_prompt(self._tokenizer, self.messages(turns[:-1]))
        except TemplateError as error:
            raise DataError(f"the base's chat template refuses the dialogue: {error}") from error
        text = turns[-1].text
        return _Exchange(prompt, render_reply(self._tokenizer, text), len(text))

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

    def fit_one_by_one(self, turns: Sequence[Turn], whole: Sequence[_Exchange]) -> list[_Fitted]:
        """A sequence for every reply, with what goes before it."""
        return [
            self._fit(turns[: index + 1], exchange)
            for index, exchange in zip(_replies(turns), whole, strict=True)
        ]

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
            part = fitting.reply[:room]
            characters = len(self._tokenizer.decode(part).rstrip("\ufffd"))
            fitting = _Exchange(fitting.prompt, part, characters)
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
    for prompt, reply, _ in fitted.exchanges:
        is_target[len(prompt) : len(prompt) + len(reply)] = [True] * len(reply)
    characters = sum(exchange.characters for exchange in fitted.exchanges)
    return Example(ids, is_target, fitted.cut, refused + fitted.dropped, characters)
