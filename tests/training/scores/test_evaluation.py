"""An evaluation: the base and adapters on the same questions."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from adapters.base import Base
from training.data.dataset import PreparedDataset
from training.data.encode import Encoding
from training.data.token_cache import encode_split, load_tokenizer
from training.errors import DataError
from training.recipe import Quantization
from training.scores.evaluation import Candidate, Conditions, Results, evaluate
from training.scores.metrics import METRICS
from training.scores.validation import validate
from training.stages import Stage

FP32 = Quantization(kind="none", compute_dtype="fp32")
SHORT = Conditions(split="validation", max_tokens=6, quantization=FP32)
SYSTEM = "你是猫。"


@pytest.fixture(scope="module")
def told() -> list[Stage]:
    """What was told while ``results`` were made."""
    return []


@pytest.fixture(scope="module")
def results(base: Base, adapter: Path, dataset: PreparedDataset, told: list[Stage]) -> Results:
    """The base, an adapter, and the base again."""
    candidates = [Candidate("tiny"), Candidate("cat", adapter, SYSTEM), Candidate("tiny")]
    return evaluate(base, candidates, dataset, [["你好"], ["好", "嗯", "是"]], SHORT, told.append)


def test_the_base_is_itself_again_after_an_adapter(results: Results) -> None:
    """Nothing of an adapter is left in what is measured after it."""
    first, cat, again = results.models

    assert first == again
    assert first.metrics != cat.metrics
    assert [one.reply for one in first.prompted] != [one.reply for one in cat.prompted]


def test_who_waits_is_told_what_is_measured(results: Results, told: list[Stage]) -> None:
    """Model by model, and how much of all that is; each stage to its end."""
    assert results.models
    shares = [one.share for one in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    ended = [(one.stage, one.subject) for one in told if one.done and one.done == one.total]
    each = [
        (stage, name) for name in ("tiny", "cat", "tiny") for stage in ("likelihood", "replies")
    ]
    assert ended == each


def test_likelihood_is_that_of_the_validation_of_trainings(
    results: Results, base: Base, adapter: Path, dataset: PreparedDataset
) -> None:
    """The same sum over the same tokens, with the adapter's own system prompt."""
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(model, adapter)
    files = encode_split(
        dataset, "validation", base, load_tokenizer(base.path), Encoding(SYSTEM, 512)
    )
    examples = files.examples()
    found = validate(tuned, examples, examples.characters)
    assert found is not None

    figures = results.models[1].metrics

    assert figures["nll_per_character"] == pytest.approx(found.nll_per_character, rel=1e-6)
    assert figures["perplexity_per_character"] == pytest.approx(math.exp(found.nll_per_character))


def test_every_figure_is_there_and_known(results: Results) -> None:
    """What has no name in the table would not be shown."""
    assert all(set(one.metrics) == METRICS.keys() for one in results.models)
    assert set(results.data) < METRICS.keys()


def test_answers_stand_beside_the_datas_own(results: Results, dataset: PreparedDataset) -> None:
    """One for each dialogue of the split, and for each fixed prompt."""
    dialogues = list(dataset.split("validation"))

    for one in results.models:
        assert [a.reference for a in one.answers] == [d.utterances[-1] for d in dialogues]
        assert [a.text for a in one.prompted] == ["你好", "是"]
    assert results.replies == results.dialogues == len(dialogues)


def test_copies_are_replies_of_the_training_split(
    results: Results, dataset: PreparedDataset
) -> None:
    """The data's own replies repeat those of the training split, as they were made."""
    learnt = {line for dialogue in dataset.split("train") for line in dialogue.utterances[1:]}
    held_out = [dialogue.utterances[-1] for dialogue in dataset.split("validation")]

    expected = 100 * sum(line in learnt for line in held_out) / len(held_out)

    assert results.data["copied_from_training"] == pytest.approx(expected)
    assert expected > 0


def test_an_empty_split_is_refused(base: Base, dataset: PreparedDataset) -> None:
    """It says which option to change."""
    with pytest.raises(DataError, match="--split"):
        evaluate(base, [Candidate("tiny")], dataset, [], Conditions(split="test"))
