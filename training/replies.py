"""What the model says while it is trained: to the same lines of the validation split each time.

A loss tells that a model learns, replies tell what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from training.data.example import Cut, Example
from training.runs.event import Sample

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

MOST_TOKENS = 48
_REPLIED_TO = 2  # from the end of a prompt's texts: the last one opens the reply


class Replies:
    """The first ``count`` examples that have a whole reply, and what is said in its place.

    The likeliest token is taken each time, so nothing random is used up and the training is the
    same with replies as without.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], count: int
    ) -> None:
        self._tokenizer = tokenizer
        self._chosen: list[Example] = []
        for example in examples:
            if len(self._chosen) == count:
                break
            if example.cut is not Cut.REPLY:
                self._chosen.append(example)

    def say(self, model: PeftModel) -> tuple[Sample, ...]:
        """The replies of ``model`` as it is; leaves it in the mode that it was in."""
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                return tuple(self._sample(model, example) for example in self._chosen)
        finally:
            model.train(was_training)

    def _sample(self, model: PeftModel, example: Example) -> Sample:
        begin = _last_reply(example)
        prompt, expected = example.ids[:begin], example.ids[begin:]
        stop = expected[-1]  # the end marker, which is learnt too
        said = list(_greedy(model, prompt, stop))
        return Sample(
            prompt=self._last_line(prompt), reply=self._text(said), expected=self._text(expected)
        )

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _last_line(self, prompt: Sequence[int]) -> str:
        """What is replied to, without the marks around it and the name of its role."""
        special = set(self._tokenizer.all_special_ids)
        segments: list[list[int]] = [[]]
        for token in prompt:
            if token in special:
                segments.append([])
            else:
                segments[-1].append(token)
        texts = [text for segment in segments if (text := self._text(segment))]
        found = texts[-_REPLIED_TO] if len(texts) >= _REPLIED_TO else self._text(prompt)
        return found.partition("\n")[2].strip() or found


def _last_reply(example: Example) -> int:
    """Where the last run of tokens that are learnt begins."""
    starts = [
        index
        for index, (before, is_target) in enumerate(pairwise(example.is_target), start=1)
        if is_target and not before
    ]
    return starts[-1] if starts else 1


def _greedy(model: PeftModel, prompt: Sequence[int], stop: int) -> Iterator[int]:
    """The likeliest tokens after ``prompt`` up to ``stop``, at most :data:`MOST_TOKENS`."""
    given = torch.tensor([list(prompt)], device=model.device)
    past = None
    for _ in range(MOST_TOKENS):
        found = model(input_ids=given, past_key_values=past, use_cache=True)
        token = int(found.logits[0, -1].argmax())
        if token == stop:
            return
        yield token
        past = found.past_key_values
        given = torch.tensor([[token]], device=model.device)
