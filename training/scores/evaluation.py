"""The evaluation of a base and its adapters on one split: each as the server would prompt it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

from adapters.base import Base
from adapters.manifest import Evaluation
from training.data.dataset import PreparedDataset
from training.data.encode import Encoding
from training.data.roles import RolePolicy, conversations
from training.data.token_cache import encode_split, load_tokenizer
from training.errors import DataError
from training.nn.model import compute_dtype, load_base, training_device
from training.quiet import quiet_libraries
from training.recipe import Quantization
from training.scores.measures import characters
from training.scores.questions import Question, asked, asked_in, with_reply
from training.scores.replies import end_tokens
from training.scores.score import Answer, Asked, ask, likelihood, measures, of_texts
from training.scores.validation import validate
from training.stages import OnProgress, OnStage, Stages, unheard


class Candidate(msgspec.Struct, frozen=True):
    """A model to evaluate: the base alone, or with the PEFT adapter in ``adapter``."""

    name: str
    adapter: Path | None = None
    system_prompt: str | None = None


class Conditions(msgspec.Struct, frozen=True):
    """How it is done. 0 ``dialogues`` are all; ``replies`` and ``max_tokens`` bound the work."""

    split: str = "test"
    dialogues: int = 1000
    replies: int = 100
    max_tokens: int = 100
    max_length: int = 512
    roles: RolePolicy = "last-assistant"
    quantization: Quantization = Quantization(kind="none")


class Scored(msgspec.Struct, frozen=True):
    """What came of one candidate: figures, its answers to the data, and to the fixed prompts."""

    name: str
    system_prompt: str | None
    metrics: dict[str, float]
    answers: list[Answer]
    prompted: list[Answer]


class Results(msgspec.Struct, frozen=True):
    """All candidates on the same questions. ``data`` are the figures of the data's own replies."""

    base: str
    dataset: str
    dataset_sha256: str
    split: str
    dialogues: int
    replies: int
    conditions: str
    measured: int
    data: dict[str, float]
    models: list[Scored]

    def evaluation(self, scored: Scored) -> Evaluation:
        """What is kept of it, in an adapter's manifest or of the base."""
        return Evaluation(
            dataset=self.dataset,
            dataset_sha256=self.dataset_sha256,
            split=self.split,
            dialogues=self.dialogues,
            replies=self.replies,
            conditions=self.conditions,
            measured=self.measured,
            metrics=scored.metrics,
        )


def evaluate(
    base: Base,
    candidates: Sequence[Candidate],
    dataset: PreparedDataset,
    prompts: Sequence[Sequence[str]],
    conditions: Conditions,
    on_stage: OnStage = unheard,
) -> Results:
    """Measure ``candidates``, one after the other over the same base.

    ``prompts`` are conversations of :func:`training.scores.questions.read_prompts`.
    ``on_stage`` is told of each candidate's `likelihood` (in examples) and `replies`.

    Raises:
        DataError: the split is empty, or the base's template refuses what is in it.
        RecipeError: the base cannot be held so on this device.
    """
    with quiet_libraries():
        each = [(stage, one.name) for one in candidates for stage in ("likelihood", "replies")]
        stages = Stages([("loading", base.name), *each], on_stage)
        stages.begin()
        bench = _Bench(base, dataset, prompts, conditions)
        found = [bench.measured(one, stages) for one in candidates]
    known = bench.known([*bench.references, *(text for one in found for text in one.said.texts)])
    return Results(
        base=base.name,
        dataset=dataset.name,
        dataset_sha256=dataset.manifest.sha256,
        split=conditions.split,
        dialogues=bench.dialogues,
        replies=len(bench.references),
        conditions=f"greedy, at most {conditions.max_tokens} tokens; base {bench.held}",
        measured=int(time.time()),
        data=of_texts(bench.references, known),
        models=[one.scored(known) for one in found],
    )


class _Measured(NamedTuple):
    """One candidate, before it is known which of its replies the training split has."""

    candidate: Candidate
    likelihood: dict[str, float]
    said: Asked
    prompted: Asked

    def scored(self, known: Collection[str]) -> Scored:
        of_replies = measures(self.said, known) if self.said.texts else {}
        return Scored(
            self.candidate.name,
            self.candidate.system_prompt,
            self.likelihood | of_replies,
            self.said.answers,
            self.prompted.answers,
        )


class _Bench:
    """What all candidates share: the base, the tokenizer, the split."""

    def __init__(
        self,
        base: Base,
        dataset: PreparedDataset,
        prompts: Sequence[Sequence[str]],
        conditions: Conditions,
    ) -> None:
        self._base = base
        self._dataset = dataset
        self._prompts = prompts
        self._conditions = conditions
        split = dataset.split(conditions.split)
        self.dialogues = min(conditions.dialogues or len(split), len(split))
        if not self.dialogues:
            raise DataError(
                f"the split '{conditions.split}' is empty; --split names another", file=dataset.path
            )
        self._tokenizer = load_tokenizer(base.path)
        self._ends = end_tokens(base, self._tokenizer)
        self.references = [
            one.utterances[-1] for one in with_reply(split, min(conditions.replies, self.dialogues))
        ]
        device = training_device()
        self._model = load_base(base, conditions.quantization, device)
        asked = conditions.quantization.compute_dtype
        dtype = str(compute_dtype(asked, device, base.architecture))
        kind = conditions.quantization.kind
        self.held = dtype.removeprefix("torch.") + ("" if kind == "none" else f", {kind} weights")

    def measured(self, candidate: Candidate, stages: Stages) -> _Measured:
        many = len(self.references)
        total = many + len(self._prompts)
        with _tuned(self._model, candidate.adapter) as model:
            likely = self._likelihood(model, candidate, stages.begin())
            advance = stages.begin()
            said = self._ask(
                model, self._questions(candidate), lambda done, _: advance(done, total)
            )
            prompted = self._ask(
                model, self._prompted(candidate), lambda done, _: advance(many + done, total)
            )
        return _Measured(candidate, likely, said, prompted)

    def known(self, texts: Sequence[str]) -> frozenset[str]:
        """Those of ``texts`` (as characters) that the training split has as replies."""
        wanted = {characters(text) for text in texts} - {""}
        found: set[str] = set()
        for dialogue in self._dataset.split("train"):
            for turns in conversations(dialogue, "every-reply"):
                found |= wanted & {characters(turn.text) for turn in turns if turn.is_reply}
        return frozenset(found)

    def _encoding(self, candidate: Candidate) -> Encoding:
        conditions = self._conditions
        return Encoding(candidate.system_prompt, conditions.max_length, conditions.roles)

    def _likelihood(
        self, model: Any, candidate: Candidate, on_progress: OnProgress
    ) -> dict[str, float]:
        files = encode_split(
            self._dataset,
            self._conditions.split,
            self._base,
            self._tokenizer,
            self._encoding(candidate),
        )
        examples = files.examples(self.dialogues)
        found = validate(model, examples, examples.characters, on_progress=on_progress)
        assert found is not None, "nobody asks to stop"
        return likelihood(found)

    def _questions(self, candidate: Candidate) -> list[Question]:
        dialogues = self._dataset.split(self._conditions.split)
        many = len(self.references)
        return asked_in(dialogues, self._tokenizer, self._encoding(candidate), many)

    def _prompted(self, candidate: Candidate) -> list[Question]:
        return [asked(turns, self._tokenizer, candidate.system_prompt) for turns in self._prompts]

    def _ask(self, model: Any, questions: Sequence[Question], on_progress: OnProgress) -> Asked:
        most = self._conditions.max_tokens
        return ask(model, self._tokenizer, questions, self._ends, most, on_progress)


@contextmanager
def _tuned(model: Any, adapter: Path | None) -> Iterator[Any]:
    """``model`` with the adapter in place, and without it again afterwards."""
    if adapter is None:
        yield model
        return
    from peft import PeftModel

    tuned = PeftModel.from_pretrained(model, adapter)
    try:
        yield tuned.get_base_model()
    finally:
        with torch.no_grad():
            tuned.unload()
