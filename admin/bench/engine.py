"""Benchmarks of the engine in this process: its throughput, the parts of its steps, sampling."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adapters.base import Base
from admin.bench.errors import BenchFailed
from admin.bench.in_process import EngineSide, greedy, started_engine, with_every_parameter
from admin.bench.load import Side, alternate
from admin.bench.models import obtain_adapters
from admin.bench.report import Report, report_of
from admin.bench.serve import DEFAULT_RUNNING, teller, token_counter, told
from admin.bench.timeline import Round
from admin.bench.workload import Prompter, Workload
from admin.commands.base import obtain_base
from admin.context import AdminContext

if TYPE_CHECKING:
    from server.engine.types import SamplingParams
    from server.settings import ServerSettings


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What ``bench engine`` and ``bench sampling`` are asked.

    ``without_adapters`` measures the base in turn with the adapters.
    """

    workload: Workload
    rounds: int
    base: str
    weights: str = "auto"
    device: str = "auto"
    adapters: int = 0
    without_adapters: bool = False


def measure_engine(admin: AdminContext, asked: EngineOptions) -> Report:
    """The load without HTTP; with the adapters and, if asked, with the base in turn."""
    base = obtain_base(admin, asked.base)
    names = obtain_adapters(admin, base, asked.adapters)
    models = {"adapters": names, "base": [base.name]}
    if not names:
        del models["adapters"]
    elif not asked.without_adapters:
        del models["base"]
    played = asyncio.run(_play(admin, asked, base, models))
    return report_of("engine", told(asked), asked.workload.output_tokens, played)


async def _play(
    admin: AdminContext, asked: EngineOptions, base: Base, models: Mapping[str, Sequence[str]]
) -> dict[str, list[Round]]:
    prompter = Prompter(asked.workload, token_counter(base))
    async with started_engine(engine_settings(admin, asked, base)) as engine:
        sampling = greedy(asked.workload)
        sides = {
            name: EngineSide(engine=engine, models=asking, prompter=prompter, sampling=sampling)
            for name, asking in models.items()
        }
        return await play_warm(admin, asked, sides)


async def play_warm(
    admin: AdminContext, asked: EngineOptions, sides: dict[str, EngineSide]
) -> dict[str, list[Round]]:
    """Warm every side up, then let them take turns."""
    for side in sides.values():
        await side.warm_up(max(len(side.models), asked.workload.concurrency))
    playing = [Side(name, side.play) for name, side in sides.items()]
    return await alternate(playing, asked.rounds, teller(admin))


def measure_sampling(admin: AdminContext, asked: EngineOptions) -> Report:
    """How much of a decode step sampling takes: with every parameter on, and greedily.

    Raises:
        BenchFailed: the engine did not measure its steps.
    """
    base = obtain_base(admin, asked.base)
    played = asyncio.run(_play_sampling(admin, asked, base))
    must_have_run_together(played)
    return report_of("sampling", told(asked), asked.workload.output_tokens, played)


def must_have_run_together(played: Mapping[str, Sequence[Round]]) -> None:
    """Refuse sides of which one had no step with all of its replies.

    Raises:
        BenchFailed: there is one such, whose share of sampling nobody measured.
    """
    for name, rounds in played.items():
        if not any("sampling" in each.parts for each in rounds):
            raise BenchFailed(
                f"The engine measured no step in which all replies of the side {name!r} ran "
                "together; ask for more --output-tokens."
            )


async def _play_sampling(
    admin: AdminContext, asked: EngineOptions, base: Base
) -> dict[str, list[Round]]:
    count = token_counter(base)
    others = replace(asked.workload, seed=~asked.workload.seed)  # prompts that no cache has
    async with started_engine(engine_settings(admin, asked, base)) as engine:

        def side(workload: Workload, sampling: SamplingParams) -> EngineSide:
            return EngineSide(
                engine=engine,
                models=[base.name],
                prompter=Prompter(workload, count),
                sampling=sampling,
                is_decoding_only=True,
            )

        sides = {
            "every parameter": side(asked.workload, with_every_parameter(asked.workload)),
            "greedy": side(others, greedy(others)),
        }
        return await play_warm(admin, asked, sides)


def engine_settings(admin: AdminContext, asked: EngineOptions, base: Base) -> ServerSettings:
    """Settings of an engine with room for the load.

    Raises:
        SettingsInvalid: the weights or the device are none that there are.
    """
    from server.engine.config import DEFAULT_CONTEXT
    from server.settings import checked

    load = asked.workload
    return checked(
        {
            "home": admin.home,
            "base": base.name,
            "weights": asked.weights,
            "device": asked.device,
            "max_running": max(DEFAULT_RUNNING, load.concurrency),
            "max_context": max(DEFAULT_CONTEXT, load.longest),
        }
    )
