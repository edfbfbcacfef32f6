"""What `pocket` learns from: the bundled samples, varied without end, in rows of tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from adapters.manifest import SEED_SYSTEM_PROMPT
from training.data.clean import Cleaner
from training.data.dialogue import RawDialogue
from training.data.roles import assign_roles
from training.pocket.grammar import SAMPLES, Grammar, vary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TEXTS = ("cat", "scholar")  # samples that lend their characters to the vocabulary

Dialogues = list[list[str]]


def read_sample(name: str) -> dict[str, Dialogues]:
    """The splits of a bundled sample, cleaned as ``data prepare`` cleans LCCC."""
    raw = msgspec.json.decode((SAMPLES / f"{name}.json").read_bytes(), type=dict[str, Dialogues])
    cleaner = Cleaner()
    return {
        split: [
            cleaned.utterances
            for dialogue in dialogues
            if (cleaned := cleaner.clean(RawDialogue(dialogue), pre_spaced=True)) is not None
        ]
        for split, dialogues in raw.items()
    }


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids and, for each, the weight of its loss."""

    ids: list[int]
    weights: list[float]


class Corpus:
    """Endless training rows: varied dialogues, and now and then a plain line of the samples.

    The plain lines teach the vocabulary of the characters that adapters are trained on later,
    without teaching when to use it.
    """

    SYSTEM_SHARE = 0.15
    PLAIN_SHARE = 0.06
    USER_WEIGHT = 0.1  # of the loss on what the user says: reading helps answering, a little
    POOL = 8
    SLIP = 0.08  # the chance that a character of the user's is missing; keeps from learning by rote

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        dialogues: Dialogues,
        grammar: Grammar,
        rng: random.Random,
    ) -> None:
        self._tokenizer = tokenizer
        self._dialogues = dialogues
        self._grammar = grammar
        self._rng = rng
        self._cache: dict[str, list[int]] = {}
        self._plain = [line for name in TEXTS for _, line in read_sample(name)["train"]]

    def batches(self, tokens: int) -> Iterator[list[Row]]:
        """Endless batches of about ``tokens`` tokens, each of rows of like length.

        Drawn from a pool of :attr:`POOL` batches at a time, so that little is padding.
        """
        while True:
            pool: list[Row] = []
            size = 0
            while size < self.POOL * tokens:
                pool.append(self._row())
                size += len(pool[-1].ids)
            pool.sort(key=lambda row: len(row.ids))
            made = list(_cut(pool, tokens))
            self._rng.shuffle(made)
            yield from made

    def _row(self) -> Row:
        is_plain = self._rng.random() < self.PLAIN_SHARE
        return self._plain_row() if is_plain else self._dialogue_row()

    def _plain_row(self) -> Row:
        line = self._rng.choice(self._plain)
        ids = self._tokenizer(line)["input_ids"] + [self._tokenizer.pad_token_id]
        return Row(ids, [1.0] * len(ids))

    def _dialogue_row(self) -> Row:
        dialogue = vary(self._rng.choice(self._dialogues), self._grammar, self._rng)
        dialogue = [
            self._slip(turn.text) if turn.role == "user" else turn.text
            for turn in assign_roles(dialogue)
        ]
        system = SEED_SYSTEM_PROMPT if self._rng.random() < self.SYSTEM_SHARE else None
        return self.chatml(dialogue, system)

    def chatml(self, dialogue: list[str], system: str | None) -> Row:
        """A dialogue as the chat template renders it, put together from cached pieces.

        Rendering the template for each of some 20,000 dialogues would take half of the time that
        building takes.
        """
        ids: list[int] = []
        weights: list[float] = []
        turns = [(turn.role, turn.text) for turn in assign_roles(dialogue)]
        for role, text in [("system", system), *turns] if system else turns:
            opening, content = self._tokens(f"<|im_start|>{role}\n"), self._tokens(text or "")
            weight = {"system": 0.0, "user": self.USER_WEIGHT, "assistant": 1.0}[role]
            ids += [*opening, *content, self._tokenizer.eos_token_id, *self._tokens("\n")]
            weights += [0.0] * len(opening) + [weight] * (len(content) + 1) + [0.0]
        return Row(ids, weights)

    def _slip(self, line: str) -> str:
        kept = (character for character in line if self._rng.random() > self.SLIP)
        return "".join(kept) or line

    def _tokens(self, text: str) -> list[int]:
        ids = self._cache.get(text)
        if ids is None:
            ids = self._cache[text] = self._tokenizer(text)["input_ids"]
        return ids


def _cut(rows: list[Row], tokens: int) -> Iterator[list[Row]]:
    """Consecutive rows with ``tokens`` tokens together, or a few more."""
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if sum(len(one.ids) for one in batch) >= tokens:
            yield batch
            batch = []
    if batch:
        yield batch
