"""The plain loop: micro-batches padded to the maximum length, the loss over all positions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from adapters.base import read_base
from training.nn.model import load_model, trainable
from training.optimizer import Paging, make_optimizer
from training.recipe import Recipe
from training.sides.job import Job
from training.sides.playing import Playing

if TYPE_CHECKING:
    from collections.abc import Sequence

IGNORED = -100


def main(job_path: str) -> None:
    """Train on the sequences of the job, padded to its ``max_length``."""
    job = Job.read(Path(job_path))
    device = torch.device(job.device)
    playing = Playing(job.device)
    recipe = msgspec.convert(job.recipe, Recipe)
    torch.manual_seed(recipe.training.seed)
    model = load_model(
        read_base(Path(job.base), Path(job.base).name), recipe, device, is_fused=False
    )
    model.train()
    paging = Paging.of(model, recipe.training.optimizer)
    optimizer = make_optimizer(model, recipe.training, paging=paging)
    playing.ready()

    def play(number: int) -> None:
        training = recipe.training
        sequences = job.sequences[number]
        for start in range(0, len(sequences), training.dialogues_per_step):
            step = sequences[start : start + training.dialogues_per_step]
            for at in range(0, len(step), training.batch_size):
                batch = padded(step[at : at + training.batch_size], job.max_length, device)
                loss = model(**batch, use_cache=False).loss / training.gradient_accumulation
                loss.backward()
            torch.nn.utils.clip_grad_norm_(trainable(model), training.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    playing.play_all(play)


def padded(
    sequences: Sequence[tuple[list[int], list[int]]], length: int, device: torch.device
) -> dict[str, Any]:
    """A batch as transformers' models take it, every row of ``length`` tokens."""
    ids = torch.zeros(len(sequences), length, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    mask = torch.zeros_like(ids)
    for row, (tokens, wanted) in enumerate(sequences):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, : len(tokens)] = torch.tensor(wanted)
        mask[row, : len(tokens)] = 1
    batch = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    return {name: tensor.to(device) for name, tensor in batch.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
