"""What to change when the memory was not enough, computed from the plan that did not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import torch

from training.data.encode import Example
from training.nn.model import compute_dtype, training_device
from training.planning.footprint import base_bytes
from training.planning.plan import Plan

GIB = 2**30
NOTABLE = GIB  # less may be this process's own CUDA context


@dataclass(frozen=True)
class Memory:
    """A GPU's memory in bytes: all of it, the most that this process held, what others hold."""

    total: int
    peak: int
    others: int


def gpu_memory(device: torch.device) -> Memory | None:
    """The memory of ``device`` as it stands; ``None`` for a CPU."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.memory_reserved(device)
    return Memory(total, torch.cuda.max_memory_reserved(device), max(0, total - free - own))


def memory_advice(plan: Plan, step: int, memory: Memory | None) -> str:
    """Sentences about what made step ``step`` (from 0) too large, and what would make it smaller.

    A forward is bounded by ``training.tokens_per_forward``, in exact mode otherwise by
    ``training.batch_size`` times ``prompt.max_length``. There the dialogues of an optimiser step,
    and with them the result, depend on the product of batch size and accumulation alone.
    """
    return " ".join([*_facts(plan, step, memory), *_remedies(plan, step)])


def _facts(plan: Plan, step: int, memory: Memory | None) -> Iterator[str]:
    yield f"The largest forward of step {step + 1} has {largest_forward(plan, step)} tokens."
    if memory is not None:
        yield f"This process held {_gib(memory.peak)} of {_gib(memory.total)}."
        if memory.others > NOTABLE:
            yield f"Other processes hold {_gib(memory.others)}: end them first."


def _remedies(plan: Plan, step: int) -> Iterator[str]:
    recipe = plan.recipe
    yield _fewer_tokens(plan, step)
    if recipe.training.gradient_checkpointing is False:
        yield (
            "training.gradient_checkpointing=auto computes activations again where there is not "
            "enough memory to keep those of all layers."
        )
    if recipe.quantization.kind != "nf4":
        smaller = msgspec.structs.replace(recipe.quantization, kind="nf4")
        shape = plan.base.architecture
        dtype = compute_dtype(recipe.quantization.compute_dtype, training_device(), shape)
        kinds = (recipe.quantization, smaller)
        now, then = (base_bytes(shape, kind, dtype) for kind in kinds)
        yield f"quantization.kind=nf4 holds the base in {_gib(then)} instead of {_gib(now)}."


def largest_forward(plan: Plan, step: int) -> int:
    """The most tokens that one forward of step ``step`` (from 0) holds, shared ones in each."""
    largest = held = 0
    for example in _examples(plan, step):
        size = len(example.ids)
        held = held + size if held + size <= plan.tokens_per_forward else size
        largest = max(largest, held)
    return largest


def _fewer_tokens(plan: Plan, step: int) -> str:
    """How a forward gets to hold half the tokens at most: by the batch, else by the length."""
    most = largest_forward(plan, step) // 2
    if plan.recipe.training.mode == "throughput":
        return f"Start anew with training.tokens_per_forward={max(16, most)}."
    if plan.recipe.training.tokens_per_forward:
        return (
            f"Start anew with training.tokens_per_forward={max(16, most)}: the same result in "
            "smaller forwards, unless one dialogue alone is larger."
        )
    training, length = plan.recipe.training, plan.recipe.prompt.max_length
    product = training.dialogues_per_step
    fitting = [size for size in range(1, product + 1) if product % size == 0]
    fitting = [size for size in fitting if size * length <= most]
    if fitting:
        return (
            f"Start anew with training.batch_size={fitting[-1]} and "
            f"training.gradient_accumulation={product // fitting[-1]}: as many dialogues a step, "
            f"so the same result, and at most {fitting[-1] * length} tokens a forward."
        )
    shorter = max(16, most)
    lengths = [len(example.ids) for example in _examples(plan, step)]
    cut = sum(size > shorter for size in lengths)
    return (
        f"Start anew with training.batch_size=1, training.gradient_accumulation={product} and "
        f"prompt.max_length={shorter}, which would cut {cut} of this step's {len(lengths)} "
        "dialogues."
    )


def _examples(plan: Plan, step: int) -> list[Example]:
    """Those of step ``step``; of the last one where all steps are done."""
    return plan.step_examples(min(step, plan.total_steps - 1))


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
