"""Replies while a training runs: the same few questions to the model as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from training.data.token_cache import load_tokenizer
from training.planning.plan import Plan, encoding_of
from training.runs import Sample
from training.scores.questions import asked_in
from training.scores.replies import end_tokens
from training.scores.score import ask, measures

if TYPE_CHECKING:
    from peft import PeftModel


class Samples(NamedTuple):
    """Figures by the names of :data:`training.scores.metrics.METRICS`, and what they are of."""

    scores: dict[str, float]
    replies: tuple[Sample, ...]


class Sampling:
    """Asks the last exchange of the first dialogues of a plan's validation split, greedily.

    Nothing of it is random, so a training that is asked goes on as it would have.
    """

    def __init__(self, plan: Plan) -> None:
        recipe = plan.recipe
        self._tokenizer = load_tokenizer(plan.base.path)
        self._ends = end_tokens(plan.base, self._tokenizer)
        self._max_tokens = recipe.generation.max_tokens
        self._questions = asked_in(
            plan.dataset.split("validation"),
            self._tokenizer,
            encoding_of(recipe),
            recipe.record.samples,
        )

    def ask(self, model: PeftModel) -> Samples:
        """What ``model`` says now. Leaves it in the mode that it was in."""
        found = ask(
            model.get_base_model(), self._tokenizer, self._questions, self._ends, self._max_tokens
        )
        scores = measures(found)
        del scores["copied_from_training"]  # the training split is not searched every time
        replies = tuple(Sample(one.text, one.reply, one.reference) for one in found.answers)
        return Samples(scores, replies)
