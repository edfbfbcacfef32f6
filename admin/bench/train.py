"""``bench train``: how quick a training is beside a plain loop and TRL, on the same dialogues."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from admin.bench.errors import BenchFailed
from admin.bench.report import machine
from admin.bench.side_process import PlayedRound, SideProcess, take_turns
from admin.bench.train_report import SideReport, TrainReport, ratios_of
from admin.commands.base import obtain_base
from admin.context import AdminContext

if TYPE_CHECKING:
    import torch

    from training.data.dataset import PreparedDataset
    from training.recipe import Recipe
    from training.sides.material import Lesson

SideName = Literal["exact", "padded", "trl", "throughput", "trl-packed"]
SIDES: tuple[SideName, ...] = get_args(SideName)
OURS: tuple[SideName, ...] = ("exact", "throughput")
OF_TRL: tuple[SideName, ...] = ("trl", "trl-packed")
FILLED: tuple[SideName, ...] = ("throughput", "trl-packed")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What is measured. ``trl`` is a virtual environment, or a Python, that has TRL."""

    base: str
    recipe: str
    overrides: tuple[str, ...]
    steps: int
    rounds: int
    tokens_per_forward: int
    seed: int
    device: Literal["auto", "cpu", "cuda"]
    trl: Path | None
    sides: tuple[SideName, ...]
    peak_tflops: float | None

    def chosen(self) -> tuple[SideName, ...]:
        """The sides, in the order in which they take turns.

        Raises:
            BenchFailed: TRL is asked for and nobody said where it is.
        """
        if self.sides:
            missing = [name for name in self.sides if name in OF_TRL and self.trl is None]
            if missing:
                raise BenchFailed(
                    f"--side {missing[0]} needs --trl DIR, a virtual environment with TRL: "
                    "python3 -m venv DIR && DIR/bin/pip install trl bitsandbytes peft psutil"
                )
            return tuple(name for name in SIDES if name in self.sides)
        return tuple(name for name in SIDES if self.trl is not None or name not in OF_TRL)


def measure_train(admin: AdminContext, asked: TrainOptions) -> TrainReport:
    """Load every side into a process of its own, and let them play rounds in turn.

    Raises:
        BenchFailed: a side cannot be started or fails.
    """
    from training.recipe import read_recipe
    from training.sides.material import (
        check_comparable,
        device_named,
        device_title,
        dialogues_needed,
        peak_flops,
        random_dataset,
    )

    names = asked.chosen()
    python = trl_python(asked.trl) if asked.trl else None
    recipe = read_recipe(
        asked.recipe, [*asked.overrides, f"training.tokens_per_forward={asked.tokens_per_forward}"]
    )
    check_comparable(recipe)
    device = device_named(asked.device)
    base = obtain_base(admin, asked.base)
    with tempfile.TemporaryDirectory(prefix="lccc-bench-") as folder, ExitStack() as stack:
        place = Path(folder)
        many = dialogues_needed(recipe, asked.tokens_per_forward, asked.steps, asked.rounds)
        dataset = random_dataset(place, many, asked.seed)
        lessons = _lessons(base, recipe, dataset, names, asked)
        starts = _Starts(place, dataset, device, python)
        sides = {}
        for name in names:
            admin.output.say(f"Loading {name} …")
            command = starts.command(name, lessons[name])
            side = stack.enter_context(SideProcess(name, command, place / f"{name}.log"))
            side.ready()
            side.play(0)
            sides[name] = side

        def tell(name: SideName, number: int, done: PlayedRound) -> None:
            rate = f"{lessons[name].counts(number).dialogues / done.seconds:.3g} dialogues/s"
            admin.output.say(f"round {number} of {asked.rounds}, {name}: {rate}")

        played = take_turns(sides, asked.rounds, tell)
    peak = asked.peak_tflops * 1e12 if asked.peak_tflops else peak_flops(device)
    ours_shares = recipe.training.shares
    reports: dict[str, SideReport] = {
        name: SideReport.of(
            played[name],
            [
                lessons[name].counts(n, shares=ours_shares and name in OURS)
                for n in range(1, asked.rounds + 1)
            ],
            peak,
        )
        for name in names
    }
    return TrainReport(
        benchmark="train",
        machine={**machine(), "device": device_title(device)},
        base=base.name,
        steps=asked.steps,
        rounds=asked.rounds,
        tokens_per_forward=asked.tokens_per_forward,
        gradient_checkpointing=recipe.training.gradient_checkpointing,
        sides=reports,
        ratios=ratios_of(reports),
    )


def trl_python(where: Path) -> Path:
    """The Python of a virtual environment, or ``where`` itself if it is one.

    Raises:
        BenchFailed: there is none.
    """
    for candidate in (where / "bin" / "python", where):
        if candidate.is_file():
            return candidate.absolute()
    raise BenchFailed(f"--trl {where}: there is no virtual environment, and no Python.")


def _lessons(
    base: Any,
    recipe: Recipe,
    dataset: PreparedDataset,
    names: Sequence[SideName],
    asked: TrainOptions,
) -> dict[SideName, Lesson]:
    """What each side trains on: all that are compared with each other, the same."""
    from training.sides.material import lesson

    exact = lesson(base, recipe, dataset, "exact", asked.steps, asked.rounds)
    filled = lesson(base, recipe, dataset, "throughput", asked.steps, asked.rounds)
    return {name: filled if name in FILLED else exact for name in names}


@dataclass(frozen=True)
class _Starts:
    """The command lines of the sides, and the files that they read."""

    place: Path
    dataset: PreparedDataset
    device: torch.device
    python: Path | None

    def command(self, name: SideName, lesson: Lesson) -> list[str]:
        if name in ("exact", "throughput"):
            recipe = self.place / f"{name}.toml"
            recipe.write_text(lesson.plan.recipe.toml(), encoding="utf-8")
            where = (str(lesson.plan.base.path), str(recipe), str(self.dataset.path))
            return self._own("own", *where, str(lesson.steps), str(self.device))
        job = self.place / f"{name}.json"
        lesson.job(self.device).write(job)
        if name == "padded":
            return self._own("padded", str(job))
        import training.sides

        script = Path(training.sides.__file__).parent / "trl_side.py"
        return [str(self.python), str(script), str(job), "bfd" if name in FILLED else "none"]

    def _own(self, module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", f"training.sides.{module}", *arguments]
