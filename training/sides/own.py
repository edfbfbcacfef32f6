"""Our own side: optimiser steps of a plan, as the training makes them."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from adapters.base import read_base
from training.data.dataset import PreparedDataset
from training.execution.optimisation import Optimisation
from training.nn.model import load_model
from training.planning.recomputation import Recomputation
from training.recipe import decode_recipe
from training.sides.playing import Playing
from training.train import plan_training


def main(base: str, recipe: str, dataset: str, steps: str, device: str) -> None:
    """Train on the dataset at ``dataset``: ``steps`` optimiser steps a round."""
    where = torch.device(device)
    playing = Playing(device)
    root = Path(dataset)
    resolved = decode_recipe(Path(recipe).read_text("utf-8"), recipe)
    plan = plan_training(
        read_base(Path(base), Path(base).name),
        resolved,
        PreparedDataset.open(root.parent, root.name),
    )
    torch.manual_seed(resolved.training.seed)
    again = Recomputation.decided(plan, where)
    model = load_model(
        plan.base,
        plan.pace.recipe,
        where,
        plan.total_steps,
        recomputed_layers=again.layers,
    )
    model.train()
    optimisation = Optimisation(plan, model)
    many = int(steps)
    playing.ready()

    def play(number: int) -> None:
        for step in range(number * many, (number + 1) * many):
            optimisation.step(step, plan.step_examples(step))

    playing.play_all(play, recomputed_layers=again.layers, estimated_bytes=again.needed)


if __name__ == "__main__":
    main(*sys.argv[1:])
