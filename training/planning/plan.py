"""The plan of a training: what will be trained on, in which order, how many steps.

Everything is decided here before a model is loaded; ``--dry-run`` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from adapters.base import Architecture, Base
from training.data.dataset import PreparedDataset
from training.data.encode import EncodeReport, Encoding, Example
from training.data.token_cache import encode_split
from training.data.tokens import Examples, TokenFiles
from training.errors import DataError
from training.planning.order import StepOrder
from training.planning.pace import Pace
from training.recipe import Lora, Recipe
from training.stages import OnProgress, unheard

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Plan:
    """A resolved training.

    ``train`` holds the examples of each dialogue, ``validation`` those of a fixed part of that
    split; both are read from the disk when asked for. ``recipe`` is what was asked for, and
    ``pace`` has the same in steps of the training's own size.
    """

    base: Base
    recipe: Recipe
    dataset: PreparedDataset
    train: TokenFiles
    validation: Examples
    order: StepOrder
    pace: Pace
    processes: int = 1

    @property
    def report(self) -> EncodeReport:
        """The count of what is trained on."""
        return self.train.report

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    @property
    def total_steps(self) -> int:
        """Optimiser steps; the last epoch may be a part of one."""
        asked = self.pace.recipe.training.max_steps
        return asked or max(1, round(self.recipe.training.epochs * self.steps_per_epoch))

    def epoch_at(self, step: int) -> float:
        """How many epochs are done after ``step`` steps."""
        return step / self.steps_per_epoch

    def step_dialogues(self, step: int) -> list[list[Example]]:
        """The dialogues of optimiser step ``step`` (from 0), each with its examples."""
        return [self.train[index] for index in self.order.step(step)]

    def step_examples(self, step: int) -> list[Example]:
        """The examples of optimiser step ``step`` (from 0)."""
        return [example for dialogue in self.step_dialogues(step) for example in dialogue]

    @property
    def identity(self) -> dict[str, str]:
        """What a resumed run must have in common with the run that it continues."""
        training = self.recipe.training
        shared = {"processes": str(self.processes)} if self.processes > 1 else {}
        return shared | {
            "dataset": self.dataset.manifest.sha256,
            "base weights": self.base.ref.weights_sha256,
            "tokenizer": self.base.ref.tokenizer_sha256,
            "chat template": self.base.ref.template_sha256,
            "prompt": f"{self.recipe.prompt.max_length} {self.recipe.prompt.system}",
            "roles": self.recipe.prompt.roles,
            "lora": str(self.recipe.lora),
            "quantization": str(self.recipe.quantization),
            "batch": self._batch,
            "optimizer": training.optimizer,
            "seed": str(training.seed),
        }

    @property
    def _batch(self) -> str:
        training = self.recipe.training
        exact = f"{training.batch_size} x {training.gradient_accumulation}"
        if training.mode == "exact":
            return exact
        filled = f"{self.pace.dialogues_per_step} in {self.tokens_per_forward} tokens"
        return f"{filled} instead of {exact}, learning rate {training.learning_rate_scaling}"

    @property
    def trainable_parameters(self) -> int:
        """How many parameters are trained."""
        lora = msgspec.structs.replace(self.recipe.lora, r=self.recipe.initial_r)
        return lora_parameters(self.base.architecture, lora)

    @property
    def tokens_per_forward(self) -> int:
        """The most tokens in one forward; as :meth:`training.recipe.Training.forward_limit`."""
        return self.recipe.training.forward_limit(self.recipe.prompt)


def lora_parameters(architecture: Architecture, lora: Lora) -> int:
    """LoRA's parameters: ``r * (inputs + outputs)`` for each projection of each layer.

    DoRA has a length for each output besides, AdaLoRA a singular value for each rank.
    """
    shapes = [architecture.projection_shape(target) for target in lora.target_modules]
    each = lora.r * sum(inputs + outputs for inputs, outputs in shapes)
    if lora.kind == "dora":
        each += sum(outputs for _, outputs in shapes)
    elif lora.kind == "adalora":
        each += lora.r * len(shapes)
    return each * architecture.layers


def encoding_of(recipe: Recipe) -> Encoding:
    """How ``recipe`` turns dialogues into tokens."""
    prompt = recipe.prompt
    return Encoding(prompt.system or None, prompt.max_length, prompt.roles)


def make_plan(
    base: Base,
    recipe: Recipe,
    dataset: PreparedDataset,
    tokenizer: PreTrainedTokenizerBase,
    on_progress: OnProgress = unheard,
    processes: int = 1,
) -> Plan:
    """Encode the dataset for ``base``, unless that has been done before, and count.

    ``on_progress`` gets (dialogues done, dialogues in all). ``processes`` train together.

    Raises:
        DataError: nothing to train on, a dialogue that the base's template refuses, or no room on
            the disk.
    """
    encoding = encoding_of(recipe)
    train = encode_split(dataset, "train", base, tokenizer, encoding, on_progress)
    if not train:
        raise DataError("the training split has no dialogue with a reply", file=dataset.path)
    pace = Pace.of(recipe, train.dialogue_lengths(), processes)
    validation = encode_split(dataset, "validation", base, tokenizer, encoding, on_progress)
    return Plan(
        base=base,
        recipe=recipe,
        dataset=dataset,
        train=train,
        validation=validation.examples(recipe.record.evaluation_dialogues or None),
        order=_order(train, pace, recipe),
        pace=pace,
        processes=processes,
    )


def planned_again(plan: Plan, recipe: Recipe) -> Plan:
    """The plan of ``recipe`` for the same dialogues, without reading them again.

    Its ``prompt`` and ``record`` must be those of ``plan``.
    """
    assert (recipe.prompt, recipe.record) == (plan.recipe.prompt, plan.recipe.record)
    pace = Pace.of(recipe, plan.train.dialogue_lengths(), plan.processes)
    order = _order(plan.train, pace, recipe)
    return replace(plan, recipe=recipe, pace=pace, order=order)


def _order(train: TokenFiles, pace: Pace, recipe: Recipe) -> StepOrder:
    return StepOrder(len(train), pace.dialogues_per_step, recipe.training.seed)
