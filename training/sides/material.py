"""What all sides train on: random dialogues as a dataset, plans over it, and jobs for the peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

from adapters.base import Base
from training.data.dataset import PreparedDataset, prepare
from training.data.example import Example
from training.errors import RecipeError
from training.nn.model import compute_dtype, training_device
from training.nn.packing import packs
from training.planning.flops import training_flops
from training.planning.plan import Plan
from training.recipe import Mode, Recipe
from training.sides.job import Job
from training.synthetic.dialogues import write_random_dialogues
from training.train import plan_training

IGNORED = -100
FEWEST_DIALOGUES = 1000
SHORTEST = 20  # tokens; fewer no dialogue has
# Qwen3's tokenizer makes a token of about so many characters, a random base's of one.
CHARACTERS_PER_TOKEN = 1.5

# Dense peak in FLOP/s of 16-bit products, from the makers' data sheets, by part of a GPU's name.
PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "V100": 125e12,
    "T4": 65e12,
}


@dataclass(frozen=True)
class Counts:
    """What one round of a side trains on, and the arithmetic that this takes at least."""

    dialogues: int
    tokens: int
    target_tokens: int
    flops: int


@dataclass(frozen=True)
class Lesson:
    """A plan, and how many of its steps make a round. Round 0 is the warm-up."""

    plan: Plan
    steps: int
    rounds: int

    def examples(self, number: int) -> list[Example]:
        """Those of round ``number``, in the order in which they are trained on."""
        steps = range(number * self.steps, (number + 1) * self.steps)
        return [example for step in steps for example in self.plan.step_examples(step)]

    def counts(self, number: int, *, shares: bool = False) -> Counts:
        """Of round ``number``; with ``shares`` its arithmetic is that of the plan's packs."""
        steps = range(number * self.steps, (number + 1) * self.steps)
        examples = self.examples(number)
        tokens = sum(len(example.ids) for example in examples)
        targets = sum(example.targets for example in examples)
        computed = sum(
            one.tokens
            for step in steps
            for one in packs(
                self.plan.step_examples(step), self.plan.tokens_per_forward, share=shares
            )
        )
        lora = self.plan.trainable_parameters
        flops = training_flops(self.plan.base.architecture, lora, tokens=computed, targets=targets)
        dialogues = sum(len(self.plan.order.step(step)) for step in steps)
        return Counts(dialogues, tokens, targets, flops)

    def job(self, device: torch.device) -> Job:
        """The same for a side that makes no plans."""
        recipe = self.plan.recipe
        rounds = [
            [(example.ids, _labels(example)) for example in self.examples(number)]
            for number in range(self.rounds + 1)
        ]
        asked = recipe.quantization.compute_dtype
        dtype = compute_dtype(asked, device, self.plan.base.architecture)
        return Job(
            base=str(self.plan.base.path),
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            max_length=recipe.prompt.max_length,
            tokens_per_forward=self.plan.tokens_per_forward,
            recipe=msgspec.to_builtins(recipe),
            sequences=rounds,
        )


def _labels(example: Example) -> list[int]:
    return [
        token if is_target else IGNORED
        for token, is_target in zip(example.ids, example.is_target, strict=True)
    ]


def random_dataset(place: Path, dialogues: int, seed: int) -> PreparedDataset:
    """So many random dialogues, cleaned and prepared, below ``place``."""
    raw = write_random_dialogues(
        place / "random.jsonl", dialogues, seed, shortened=CHARACTERS_PER_TOKEN
    )
    return prepare([raw], "random", place / "datasets")


def dialogues_needed(recipe: Recipe, tokens_per_forward: int, steps: int, rounds: int) -> int:
    """Enough for every round of every mode to have dialogues of its own, about."""
    each = max(steps * recipe.training.dialogues_per_step, tokens_per_forward // SHORTEST)
    return max(FEWEST_DIALOGUES, 2 * each * (rounds + 1))


def lesson(
    base: Base, recipe: Recipe, dataset: PreparedDataset, mode: Mode, steps: int, rounds: int
) -> Lesson:
    """``steps`` steps a round in exact mode; in throughput mode about as many dialogues."""
    training = msgspec.structs.replace(recipe.training, mode=mode, max_steps=0, epochs=1000.0)
    plan = plan_training(base, msgspec.structs.replace(recipe, training=training), dataset)
    wanted = steps * recipe.training.dialogues_per_step
    if mode == "throughput":
        steps = max(1, round(wanted / plan.pace.dialogues_per_step))
    return Lesson(plan, steps, rounds)


def check_comparable(recipe: Recipe) -> None:
    """Refuse what the other sides do not know.

    Raises:
        RecipeError: the message names the field.
    """
    wanted: Sequence[tuple[str, Any, Any]] = (
        ("lora.kind", recipe.lora.kind, "lora"),
        ("lora.plus_ratio", recipe.lora.plus_ratio, 1.0),
        ("training.neftune_alpha", recipe.training.neftune_alpha, 0.0),
        ("training.scheduler", recipe.training.scheduler, "constant"),
        ("prompt.roles", recipe.prompt.roles, "last-assistant"),
    )
    for name, found, only in wanted:
        if found != only:
            raise RecipeError(f"The other sides know {name} = {only!r} alone, not {found!r}.")


def device_named(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Where to train.

    Raises:
        RecipeError: a GPU is asked for, and there is none.
    """
    if name == "cpu":
        return torch.device("cpu")
    found = training_device()
    if name == "cuda" and found.type != "cuda":
        raise RecipeError("--device cuda: torch finds no CUDA device here; `lccc-admin doctor`.")
    return found


def device_title(device: torch.device) -> str:
    """What the device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def peak_flops(device: torch.device) -> float | None:
    """What the device could compute in a second at most; ``None`` where that is not known."""
    title = device_title(device)
    return next((peak for name, peak in PEAKS.items() if name in title), None)
