"""``bench train``: how quick a training is beside a plain loop and TRL, on the same dialogues."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from admin.bench.errors import BenchFailed
from admin.bench.report import machine
from admin.bench.side_process import PlayedRound, SideProcess, take_turns
from admin.bench.train_report import SideReport, TrainReport, ratios_of
from admin.commands.base import obtain_base
from admin.context import AdminContext

if TYPE_CHECKING:
    import torch

    from training.recipe import GradientCheckpointing, Recipe
    from training.sides.material import Lesson

SideName = Literal[
    "exact", "exact-auto", "padded", "trl", "throughput", "throughput-auto", "trl-packed"
]
SIDES: tuple[SideName, ...] = get_args(SideName)
KEEPING: tuple[SideName, ...] = ("exact-auto", "throughput-auto")
OURS: tuple[SideName, ...] = ("exact", "throughput", *KEEPING)
OF_TRL: tuple[SideName, ...] = ("trl", "trl-packed")
FILLED: tuple[SideName, ...] = ("throughput", "throughput-auto", "trl-packed")


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
    from training.sides.material import check_comparable, device_named, device_title, peak_flops

    names = asked.chosen()
    python = trl_python(asked.trl) if asked.trl else None
    recipe = read_recipe(
        asked.recipe, [*asked.overrides, f"training.tokens_per_forward={asked.tokens_per_forward}"]
    )
    check_comparable(recipe)
    recipe = _checkpointing(recipe, recipe.training.gradient_checkpointing is not False)
    device = device_named(asked.device)
    base = obtain_base(admin, asked.base)
    with tempfile.TemporaryDirectory(prefix="lccc-bench-") as folder:
        lessons = _lessons(base, recipe, Path(folder), names, asked)
        starts = _Starts(Path(folder), device, python)
        played = _play(admin, lessons, starts, asked.rounds)
    peak = asked.peak_tflops * 1e12 if asked.peak_tflops else peak_flops(device)
    sides: dict[str, SideReport] = {}
    for name, lesson in lessons.items():
        shares = recipe.training.shares and name in OURS
        counts = [lesson.counts(number, shares=shares) for number in range(1, asked.rounds + 1)]
        sides[name] = SideReport.of(played[name], counts, peak)
    return TrainReport(
        benchmark="train",
        machine={**machine(), "device": device_title(device)},
        base=base.name,
        steps=asked.steps,
        rounds=asked.rounds,
        tokens_per_forward=asked.tokens_per_forward,
        gradient_checkpointing=recipe.training.gradient_checkpointing is True,
        sides=sides,
        ratios=ratios_of(sides),
    )


def _play(
    admin: AdminContext, lessons: dict[SideName, Lesson], starts: _Starts, rounds: int
) -> dict[SideName, list[PlayedRound]]:
    """What the rounds of each side took, which are all loaded before the first."""

    def tell(name: SideName, number: int, done: PlayedRound) -> None:
        rate = f"{lessons[name].counts(number).dialogues / done.seconds:.3g} dialogues/s"
        admin.output.say(f"round {number} of {rounds}, {name}: {rate}")

    with ExitStack() as stack:
        sides = {}
        for name, lesson in lessons.items():
            admin.output.say(f"Loading {name} …")
            side = SideProcess(name, starts.command(name, lesson), starts.place / f"{name}.log")
            sides[name] = stack.enter_context(side).warmed_up()
        return take_turns(sides, rounds, tell)


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
    place: Path,
    names: Sequence[SideName],
    asked: TrainOptions,
) -> dict[SideName, Lesson]:
    """What each side trains on: all that are compared with each other, the same."""
    from training.sides.material import dialogues_needed, lesson, random_dataset

    many = dialogues_needed(recipe, asked.tokens_per_forward, asked.steps, asked.rounds)
    dataset = random_dataset(place, many, asked.seed)
    exact = lesson(base, recipe, dataset, "exact", asked.steps, asked.rounds)
    filled = lesson(base, recipe, dataset, "throughput", asked.steps, asked.rounds)
    chosen = {name: filled if name in FILLED else exact for name in names}
    return {name: _keeping(one) if name in KEEPING else one for name, one in chosen.items()}


def _keeping(lesson: Lesson) -> Lesson:
    """The same for a side that decides by the memory which activations are kept."""
    plan = replace(lesson.plan, recipe=_checkpointing(lesson.plan.recipe, "auto"))
    return replace(lesson, plan=plan)


def _checkpointing(recipe: Recipe, setting: GradientCheckpointing) -> Recipe:
    training = msgspec.structs.replace(recipe.training, gradient_checkpointing=setting)
    return msgspec.structs.replace(recipe, training=training)


@dataclass(frozen=True)
class _Starts:
    """The command lines of the sides, and the files that they read."""

    place: Path
    device: torch.device
    python: Path | None

    def command(self, name: SideName, lesson: Lesson) -> list[str]:
        if name in OURS:
            recipe = self.place / f"{name}.toml"
            recipe.write_text(lesson.plan.recipe.toml(), encoding="utf-8")
            where = (str(lesson.plan.base.path), str(recipe), str(lesson.plan.dataset.path))
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
