"""Optimisers and learning rate schedules by the names the field uses."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from training.errors import RecipeError
from training.memory import memory_left
from training.recipe import OptimizerName, Scheduler, Training

if TYPE_CHECKING:
    from peft import PeftModel

Factor = Callable[[int], float]
# Paged states are managed memory, whose faults cost seconds in some steps (3.5 s on an H100, where
# a step takes 0.5). A GPU of whose free memory they take no more than this has room for them.
UNPAGED_SHARE = 0.25
NEEDS_NO_OPTIONS: frozenset[Scheduler] = frozenset({"constant", "linear", "cosine"})


class Kind(NamedTuple):
    """An optimiser: where its class is, its options, and its bytes of state for a parameter.

    The bytes are those of large matrices; of small ones, eight-bit optimisers keep 32 bits.
    """

    source: str
    options: dict[str, Any]
    state_bytes: float


def _bitsandbytes(name: str, moments: int, bits: int, *, paged: bool = False) -> Kind:
    options = {"optim_bits": bits} | ({"is_paged": True} if paged else {})
    constants = 0.0 if bits == 32 else 0.14  # noqa: PLR2004 # the table and scales of 8-bit blocks
    return Kind(f"bitsandbytes.optim.{name}", options, moments * (bits / 8 + constants))


_ADAMW = Kind("torch.optim.AdamW", {}, 8)
_ADAMW_8BIT = _bitsandbytes("AdamW", 2, 8)
OPTIMIZERS: dict[OptimizerName, Kind] = {
    "adamw": _ADAMW,
    "adamw_torch": _ADAMW,
    "adamw_torch_fused": _ADAMW._replace(options={"fused": True}),
    "adamw_8bit": _ADAMW_8BIT,
    "adamw_bnb_8bit": _ADAMW_8BIT,
    "paged_adamw_32bit": _bitsandbytes("AdamW", 2, 32, paged=True),
    "paged_adamw_8bit": _bitsandbytes("AdamW", 2, 8, paged=True),
    "lion_32bit": _bitsandbytes("Lion", 1, 32),
    "lion_8bit": _bitsandbytes("Lion", 1, 8),
    "paged_lion_32bit": _bitsandbytes("Lion", 1, 32, paged=True),
    "paged_lion_8bit": _bitsandbytes("Lion", 1, 8, paged=True),
    "ademamix": _bitsandbytes("AdEMAMix", 3, 32),
    "ademamix_8bit": _bitsandbytes("AdEMAMix", 3, 8),
    "paged_ademamix_32bit": _bitsandbytes("AdEMAMix", 3, 32, paged=True),
    "paged_ademamix_8bit": _bitsandbytes("AdEMAMix", 3, 8, paged=True),
    "rmsprop": Kind("torch.optim.RMSprop", {}, 4),
    "rmsprop_bnb": _bitsandbytes("RMSprop", 1, 32),
    "rmsprop_bnb_8bit": _bitsandbytes("RMSprop", 1, 8),
    "rmsprop_bnb_32bit": _bitsandbytes("RMSprop", 1, 32),
    "adagrad": Kind("torch.optim.Adagrad", {}, 4),
    # no rate and no scaling of its own: the recipe's learning rate and schedule hold
    "adafactor": Kind(
        "transformers.optimization.Adafactor", {"scale_parameter": False, "relative_step": False}, 4
    ),
    "sgd": Kind("torch.optim.SGD", {}, 0),
}


class Paging(NamedTuple):
    """Whether an optimiser's states (``size`` bytes) can leave a GPU that has ``left`` bytes free.

    The arithmetic is the same, and so is what a checkpoint keeps.
    """

    size: int
    left: int

    @classmethod
    def of(cls, model: torch.nn.Module, name: OptimizerName) -> Paging | None:
        """For the optimiser ``name`` of ``model``; ``None`` where there is nothing to choose.

        Without a GPU there is nothing to page out of, and the paged kinds are their unpaged selves.
        """
        kind = OPTIMIZERS[name]
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        device = trained[0].device
        if "is_paged" not in kind.options or device.type != "cuda":
            return None
        many = sum(parameter.numel() for parameter in trained)
        return cls(int(many * kind.state_bytes), memory_left(device))

    @property
    def is_needed(self) -> bool:
        return self.size > UNPAGED_SHARE * self.left

    def sentence(self, name: OptimizerName) -> str:
        """What was chosen, and why, for the run's log."""
        how = "are paged" if self.is_needed else "stay in the GPU's memory, unpaged"
        return f"{name}: its states, {_mib(self.size)}, {how}; {_mib(self.left)} are free"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def make_optimizer(
    model: PeftModel, training: Training, plus_ratio: float = 1.0, paging: Paging | None = None
) -> torch.optim.Optimizer:
    """The recipe's optimiser over what is trained in ``model``; B at ``plus_ratio`` times the rate.

    The paged kinds page where ``paging`` says that they need to.
    """
    kind = OPTIMIZERS[training.optimizer]
    options = dict(kind.options)
    if paging is None or not paging.is_needed:
        options.pop("is_paged", None)
    module, _, name = kind.source.rpartition(".")
    made = getattr(import_module(module), name)
    rate = training.learning_rate
    if plus_ratio == 1.0:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return made(parameters, lr=rate, weight_decay=training.weight_decay, **options)
    from peft.optimizers import create_loraplus_optimizer

    return create_loraplus_optimizer(
        model,
        made,
        lr=rate,
        loraplus_lr_ratio=plus_ratio,
        loraplus_weight_decay=training.weight_decay,
        **options,
    )


def check_schedule(training: Training, total_steps: int) -> None:
    """Refuse options that the scheduler does not take.

    Those without any are not asked: transformers' schedulers take seconds to import, which who
    only plans a training would wait for.

    Raises:
        RecipeError: the scheduler does not take these options.
    """
    if training.scheduler_options or training.scheduler not in NEEDS_NO_OPTIONS:
        schedule(training, total_steps)


def schedule(training: Training, total_steps: int) -> Factor:
    """The multiple of the learning rate at a step (from 0), a function of the step alone.

    A linear warm-up of ``warmup_steps`` that begins above zero, then what transformers' scheduler
    of the name does in the steps that are left.

    Raises:
        RecipeError: the scheduler does not take these options.
    """
    from transformers import get_scheduler

    warmup, options = training.warmup_steps, training.scheduler_options
    if training.scheduler == "constant" and options:
        raise RecipeError(f"training.scheduler_options: constant takes none, given are {options}.")
    stand_in = torch.optim.SGD([torch.zeros(1)], lr=training.learning_rate)
    try:
        made = get_scheduler(
            training.scheduler,
            stand_in,
            num_warmup_steps=0,
            num_training_steps=max(1, total_steps - warmup),
            scheduler_specific_kwargs=_whole(options),
        )
    except (TypeError, ValueError, KeyError) as error:
        raise RecipeError(
            f"training.scheduler_options: {training.scheduler} does not take {options}: {error}."
        ) from error
    decay: Factor = made.lr_lambdas[0]

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return float(decay(min(step, total_steps) - warmup))

    return factor


def _whole(options: dict[str, float]) -> dict[str, float]:
    """Numbers that are whole as such: schedulers count cycles and steps."""
    return {name: int(value) if value == int(value) else value for name, value in options.items()}
