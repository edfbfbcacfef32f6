"""``bench quantization``: what training on a base in NF4 costs, beside the base as it is.

The same recipe, data and seed, once with each; then both adapters on the same held-out dialogues.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from admin.bench.errors import BenchFailed
from admin.context import AdminContext

if TYPE_CHECKING:
    from adapters.base import Base
    from training.data.dataset import PreparedDataset
    from training.recipe import Recipe

SPLIT = "validation"


class Pair(msgspec.Struct, frozen=True):
    """Nats per character of held-out replies, after two trainings from one seed.

    ``nf4`` is the adapter of the NF4 base on that base, ``plain`` that of the base as it is, there;
    ``nf4_served`` is the first on the base as it is, as servers have it.
    """

    seed: int
    nf4: float
    nf4_served: float
    plain: float

    @property
    def difference(self) -> float:
        """How much more NF4 costs, as a share."""
        return self.nf4 / self.plain - 1

    @property
    def difference_served(self) -> float:
        """The same when the adapter is served on the base as it is."""
        return self.nf4_served / self.plain - 1


class QuantizationReport(msgspec.Struct, frozen=True):
    """All pairs, and what they are of. ``held`` is the number format of the base as it is."""

    base: str
    dataset: str
    dialogues: int
    held: str
    pairs: list[Pair]

    @property
    def differences(self) -> list[float]:
        return [pair.difference for pair in self.pairs]

    @property
    def columns(self) -> tuple[str, ...]:
        """The titles of :meth:`rows`."""
        return ("nats per character", f"LoRA, {self.held}", "NF4, as trained", "NF4, as served")

    def rows(self) -> list[tuple[str, ...]]:
        """For a table: a row a seed, the median last."""
        rows: list[tuple[str, ...]] = [
            (
                f"seed {pair.seed}",
                f"{pair.plain:.4f}",
                f"{pair.nf4:.4f} ({pair.difference:+.2%})",
                f"{pair.nf4_served:.4f} ({pair.difference_served:+.2%})",
            )
            for pair in self.pairs
        ]
        served = [pair.difference_served for pair in self.pairs]
        middle = ("median", "", f"{median(self.differences):+.2%}", f"{median(served):+.2%}")
        return [*rows, middle] if len(rows) > 1 else rows


def measure_quantization(
    admin: AdminContext,
    base: Base,
    dataset: PreparedDataset,
    recipe: Recipe,
    seeds: Sequence[int],
) -> QuantizationReport:
    """Train and measure both for each of ``seeds``; nothing is registered or kept.

    Raises:
        BenchFailed: a training was stopped.
    """
    pairs, dialogues, held = [], 0, ""
    for seed in seeds:
        with TemporaryDirectory(prefix="lccc-quantization-") as directory:
            made = {
                kind: _trained(admin, base, dataset, _variant(recipe, kind, seed), Path(directory))
                for kind in ("nf4", "none")
            }
            found = {
                (trained, measured): _measured(base, dataset, made[trained], recipe, measured)
                for trained, measured in (("nf4", "nf4"), ("nf4", "none"), ("none", "none"))
            }
        nll = {key: values[0] for key, values in found.items()}
        _, dialogues, held = found["none", "none"]
        pairs.append(
            Pair(seed, nll["nf4", "nf4"], nll["nf4", "none"], nll["none", "none"]),
        )
    return QuantizationReport(base.name, dataset.name, dialogues, held, pairs)


def _variant(recipe: Recipe, kind: str, seed: int) -> Recipe:
    quantization = msgspec.structs.replace(recipe.quantization, kind=kind)
    training = msgspec.structs.replace(recipe.training, seed=seed)
    return msgspec.structs.replace(recipe, quantization=quantization, training=training)


def _trained(
    admin: AdminContext, base: Base, dataset: PreparedDataset, recipe: Recipe, root: Path
) -> Path:
    """The adapter's directory of one training, by its best validation."""
    from admin.progress import TrainingProgress
    from training.runs import RunStore
    from training.train import plan_training, train

    name = f"{recipe.quantization.kind}-{recipe.training.seed}"
    plan = plan_training(base, recipe, dataset)
    with TrainingProgress(admin.output, name) as progress:
        outcome = train(plan, name, runs=RunStore(root), registry=None, progress=progress)
    if outcome.status.state != "completed":
        raise BenchFailed(f"The training {name} did not end; nothing is to be compared.")
    return outcome.run.adapter


def _measured(
    base: Base, dataset: PreparedDataset, adapter: Path, recipe: Recipe, kind: str
) -> tuple[float, int, str]:
    """(nats per character, dialogues, how the base was held), over the whole split."""
    from training.scores.evaluation import Candidate, Conditions, evaluate

    conditions = Conditions(
        split=SPLIT,
        dialogues=0,
        replies=0,
        max_length=recipe.prompt.max_length,
        roles=recipe.prompt.roles,
        quantization=msgspec.structs.replace(recipe.quantization, kind=kind),
    )
    candidate = Candidate(kind, adapter, recipe.prompt.system or None)
    results = evaluate(base, [candidate], dataset, [], conditions)
    held = results.conditions.rpartition("base ")[2]
    return results.models[0].metrics["nll_per_character"], results.dialogues, held
