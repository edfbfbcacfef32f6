"""Many dialogues as examples at once, put together from what a template writes and from texts.

The same examples as ``training.data.encode`` makes of each dialogue, many times quicker: what a
template writes is found out once for all dialogues of a form (``training.data.layout``), texts are
encoded by segments (``adapters.segments``), and tokens are laid out by array operations. What is
not sure to come out the same goes through that module: texts with control tokens in them, what has
to be cut, templates that look at texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from adapters.borders import FIRST_HAN, LAST_HAN
from adapters.prompt_batch import BatchRenderer
from adapters.segments import SegmentEncoder, Tokens, gathered
from training.data.dialogue import Dialogue
from training.data.encode import Encoding, encode_dialogue, encode_dialogues
from training.data.encoded import TARGET, Encoded
from training.data.example import Example
from training.data.layout import END, Form, Layout, Layouts, Step

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# How many dialogues of each form are made both ways before the quick one is relied upon.
CHECKED = 4

_FIRST, _LAST = chr(FIRST_HAN), chr(LAST_HAN)


class Assembler:
    """Encodes for one tokenizer and one way of encoding."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, encoding: Encoding) -> None:
        self._tokenizer = tokenizer
        self._encoding = encoding
        self._renderer = BatchRenderer(tokenizer)
        self._is_quick = self._renderer.is_quick
        if self._is_quick:
            self._segments = SegmentEncoder(tokenizer.backend_tokenizer)
            self._layouts = Layouts(self._renderer, self._segments, encoding.roles)
        self._seen: dict[Form, int] = {}

    def encode(self, dialogues: Sequence[Dialogue]) -> Encoded:
        """The examples of ``dialogues``.

        Raises:
            DataError: as :func:`training.data.encode.encode_dialogue`.
        """
        if not self._is_quick:
            return self._slowly(dialogues)
        draft = _Draft(self._segments, self._layouts.runs)
        for number, dialogue in enumerate(dialogues):
            self._add(draft, number, dialogue)
        made, quick = draft.done(self._encoding.max_length)
        if not self._is_right(dialogues, made, quick):
            self._is_quick = False
            return self._slowly(dialogues)
        if len(quick) == len(dialogues):
            return made
        return self._with_the_others(dialogues, made, quick)

    def _slowly(self, dialogues: Sequence[Dialogue]) -> Encoded:
        return Encoded.of(list(encode_dialogues(self._renderer, dialogues, self._encoding)))

    def _add(self, draft: _Draft, number: int, dialogue: Dialogue) -> None:
        """Add a dialogue to ``draft`` if it can be made the quick way."""
        system = dialogue.system or self._encoding.system_prompt
        texts = [system, *dialogue.utterances] if system else dialogue.utterances
        form = Form(len(dialogue.utterances), dialogue.has_roles, bool(system))
        layout = self._layouts.of(form)
        if layout is None or not all(texts) or any(map(self._renderer.is_odd, texts)):
            return
        if layout.shapes and not all(shape.suits(t) for shape in layout.shapes for t in texts):
            return
        draft.add(number, layout, texts)

    def _is_right(self, dialogues: Sequence[Dialogue], made: Encoded, quick: Sequence[int]) -> bool:
        """Whether the first dialogues of each form are as the slow way makes them."""
        for at, number in enumerate(quick):
            dialogue = dialogues[number]
            own = bool(dialogue.system or self._encoding.system_prompt)
            form = Form(len(dialogue.utterances), dialogue.has_roles, own)
            seen = self._seen.get(form, 0)
            if seen >= CHECKED:
                continue
            self._seen[form] = seen + 1
            expected = Encoded.of([encode_dialogue(self._tokenizer, dialogue, self._encoding)])
            if not expected.equals(made.part(at, at + 1)):
                return False
        return True

    def _with_the_others(
        self, dialogues: Sequence[Dialogue], made: Encoded, quick: Sequence[int]
    ) -> Encoded:
        """``made`` of the ``quick`` dialogues, and the others in their places."""
        done = set(quick)
        others = [number for number in range(len(dialogues)) if number not in done]
        examples = encode_dialogues(
            self._renderer, [dialogues[number] for number in others], self._encoding
        )
        return Encoded.joined(list(_runs(made, quick, zip(others, examples, strict=True))))


def _runs(
    made: Encoded, quick: Sequence[int], others: Iterable[tuple[int, list[Example]]]
) -> Iterator[Encoded]:
    """Parts of ``made``, and each of ``others`` by itself, in the order of their numbers."""
    done = 0
    for number, examples in others:
        upto = int(np.searchsorted(quick, number))
        if upto > done:
            yield made.part(done, upto)
        yield Encoded.of([examples])
        done = upto
    yield made.part(done, len(quick))


class _Draft:
    """Examples in the making: which runs and texts follow each other in them.

    A run has its number, a text the number of its place, counted down from -1.
    """

    def __init__(self, segments: SegmentEncoder, runs: list[np.ndarray]) -> None:
        self._segments = segments
        self._runs = runs
        self._numbers: list[int] = []
        self._targets: list[bool] = []
        self._places: dict[str, int] = {}
        self._ends: list[int] = []  # of each example in numbers
        self._characters: list[int] = []
        self._added: list[int] = []  # the numbers of the dialogues
        self._dialogues: list[int] = []  # where each one's examples end
        self._doubts: list[tuple[int, ...]] = []
        self._one_by_one: list[tuple[int, int, int]] = []

    def add(self, number: int, layout: Layout, texts: Sequence[str]) -> None:
        """Add the dialogue ``number``, whose messages have ``texts``."""
        for examples in layout.conversations:
            if len(examples) > 1:
                first = len(self._ends)
                self._one_by_one.append((len(self._added), first, first + len(examples)))
            for steps in examples:
                self._add_example(steps, texts)
        self._added.append(number)
        self._dialogues.append(len(self._ends))

    def _add_example(self, steps: Sequence[Step], texts: Sequence[str]) -> None:
        characters = 0
        for run, begun, lead, parts_from_han, message, is_target in steps:
            text = texts[message]
            is_parted = not lead or (parts_from_han and _FIRST <= text[0] <= _LAST)
            if is_target:
                self._numbers += (run, self._place(text), END)
                self._targets += (False, True, True)
                characters += len(text)
                if not is_parted:
                    self._doubts.append(
                        (len(self._added), *map(self._place, (lead + text, lead, text)))
                    )
                continue
            self._targets += (False, False)
            if is_parted:
                self._numbers += (run, self._place(text))
            else:
                self._numbers += (begun, self._place(lead + text))
        self._ends.append(len(self._numbers))
        self._characters.append(characters)

    def _place(self, text: str) -> int:
        return self._places.setdefault(text, ~len(self._places))

    def done(self, max_length: int) -> tuple[Encoded, list[int]]:
        """The examples, and of which dialogues.

        Left out are those with an example longer than ``max_length``, those whose reply is merged
        with what stands before it, and those that are one by one and might be in one.
        """
        pool = self._pool()
        numbers = np.array(self._numbers, np.int64)
        numbers[numbers < 0] = len(self._runs) + ~numbers[numbers < 0]
        flat, upto = gathered(pool, numbers)
        is_target = np.repeat(np.array(self._targets, bool), np.diff(upto))
        tokens = np.where(is_target, flat | TARGET, flat)
        ends = upto[np.array(self._ends, np.int64)]
        owner = np.repeat(np.arange(len(self._added)), self._examples_each())
        is_out = np.zeros(len(self._added), bool)
        is_out[owner[np.diff(ends, prepend=0) > max_length]] = True
        for dialogue in (*self._merged(pool), *self._in_one(tokens, ends)):
            is_out[dialogue] = True
        return self._kept(tokens, ends, owner, is_out)

    def _examples_each(self) -> np.ndarray:
        """Of each dialogue how many."""
        return np.diff(np.array(self._dialogues, np.int64), prepend=0)

    def _pool(self) -> Tokens:
        """The tokens of all runs, then those of all texts."""
        texts = self._segments.encode(list(self._places))
        run_ends = np.cumsum([len(run) for run in self._runs], dtype=np.int64)
        flat = np.concatenate((*self._runs, texts.flat))
        return Tokens(flat, np.concatenate((run_ends, texts.ends + run_ends[-1])))

    def _merged(self, pool: Tokens) -> Iterator[int]:
        for dialogue, *places in self._doubts:
            both, lead, text = (_tokens(pool, len(self._runs) + ~place) for place in places)
            if not np.array_equal(both, np.concatenate((lead, text))):
                yield dialogue

    def _in_one(self, tokens: np.ndarray, ends: np.ndarray) -> Iterator[int]:
        """Dialogues of which the last prompt begins with every earlier one and its reply."""
        ids = tokens & ~TARGET
        for dialogue, first, stop in self._one_by_one:
            edges = [int(ends[first - 1]) if first else 0, *ends[first:stop].tolist()]
            *earlier, last = (ids[start:end] for start, end in pairwise(edges))
            if all(np.array_equal(last[: len(each)], each) for each in earlier):
                yield dialogue

    def _kept(
        self, tokens: np.ndarray, ends: np.ndarray, owner: np.ndarray, is_out: np.ndarray
    ) -> tuple[Encoded, list[int]]:
        lengths = np.diff(ends, prepend=0)
        characters = np.array(self._characters, np.int64)
        examples = self._examples_each()
        if is_out.any():
            is_in = ~is_out[owner]
            tokens = tokens[np.repeat(is_in, lengths)]
            lengths, characters, examples = lengths[is_in], characters[is_in], examples[~is_out]
        made = Encoded.whole(tokens, np.cumsum(lengths), characters, np.cumsum(examples))
        return made, np.array(self._added, np.int64)[~is_out].tolist()


def _tokens(pool: Tokens, number: int) -> np.ndarray:
    return pool.flat[pool.ends[number - 1] if number else 0 : pool.ends[number]]
