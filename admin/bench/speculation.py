"""``bench speculation``: what guessing ahead is worth where a reply repeats itself."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec

from adapters.base import Base
from admin.bench.engine import EngineOptions, engine_settings, play_warm
from admin.bench.errors import BenchFailed
from admin.bench.in_process import EngineSide, greedy, started_engine
from admin.bench.report import Report, report_of
from admin.bench.serve import token_counter, told
from admin.bench.timeline import Round
from admin.bench.workload import Prompter
from admin.commands.base import obtain_base
from admin.context import AdminContext


@dataclass(frozen=True, kw_only=True)
class SpeculationOptions(EngineOptions):
    """The options of ``bench speculation``."""

    speculative_tokens: int


def measure_speculation(admin: AdminContext, asked: SpeculationOptions) -> Report:
    """The same greedy replies with guesses and without, in turn.

    Raises:
        BenchFailed: a guess has changed a reply.
    """
    base = obtain_base(admin, asked.base)
    played = asyncio.run(_play(admin, asked, base))
    with_guesses, without = (
        [timeline.text for one in rounds for timeline in one.timelines]
        for rounds in played.values()
    )
    if with_guesses != without:
        raise BenchFailed(
            "Replies with guesses differ from those without. Native kernels promise the same "
            "replies (`lccc-admin doctor` tells whether there are any); torch does not."
        )
    return report_of("speculation", told(asked), asked.workload.output_tokens, played)


async def _play(
    admin: AdminContext, asked: SpeculationOptions, base: Base
) -> dict[str, list[Round]]:
    prompter = Prompter(asked.workload, token_counter(base))
    settings = engine_settings(admin, asked, base)
    async with AsyncExitStack() as stack:
        sides = {
            name: EngineSide(
                engine=await stack.enter_async_context(
                    started_engine(msgspec.structs.replace(settings, speculative_tokens=guesses))
                ),
                models=[base.name],
                prompter=prompter,
                sampling=greedy(asked.workload),
            )
            for name, guesses in {"guessing": asked.speculative_tokens, "not": 0}.items()
        }
        return await play_warm(admin, asked, sides)
