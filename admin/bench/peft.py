"""``bench peft``: decode steps with several adapters, beside PEFT's own mixed batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from adapters.base import Base
from admin.bench.engine import EngineOptions, engine_settings
from admin.bench.errors import BenchFailed
from admin.bench.in_process import EngineSide, greedy, started_engine
from admin.bench.load import Side, alternate
from admin.bench.models import obtain_adapters
from admin.bench.report import Report, report_of
from admin.bench.serve import teller, token_counter, told
from admin.bench.timeline import Round, Timeline
from admin.bench.workload import Prompter
from admin.commands.base import obtain_base
from admin.context import AdminContext

if TYPE_CHECKING:
    from training.sides.peft_batch import PeftBatch


def measure_peft(admin: AdminContext, asked: EngineOptions) -> Report:
    """A batch of the load's concurrency, in our engine and in transformers with PEFT, in turn.

    Only steps in which every row decodes count; prompts are not part of the figures.
    """
    from adapters.registry import Registry

    base = obtain_base(admin, asked.base)
    names = obtain_adapters(admin, base, asked.adapters)
    registry = Registry(admin.home.registry)
    paths = {name: registry.get(name).path for name in names}
    admin.output.say("Loading the base twice: in transformers with PEFT, and in the engine …")
    played = asyncio.run(_play(admin, asked, base, paths))
    report = report_of("peft", told(asked), asked.workload.output_tokens, played)
    return without_prompts(report)


async def _play(
    admin: AdminContext, asked: EngineOptions, base: Base, adapters: dict[str, Path]
) -> dict[str, list[Round]]:
    from training.sides.peft_batch import PeftBatch

    prompter = Prompter(asked.workload, token_counter(base))
    peer = PeftBatch(base, adapters)
    admin.output.say(f"PEFT computes in {peer.number_format}.")
    async with started_engine(engine_settings(admin, asked, base)) as engine:
        ours = EngineSide(
            engine=engine,
            models=list(adapters),
            prompter=prompter,
            sampling=greedy(asked.workload),
            is_decoding_only=True,
        )
        theirs = PeftSide(peer, ours, list(adapters))
        await ours.warm_up(asked.workload.concurrency)

        async def decode(number: int) -> Round:
            return steady(await ours.play(number))

        sides = [Side("engine", decode), Side("PEFT", theirs.play)]
        return await alternate(sides, asked.rounds, teller(admin))


@dataclass(frozen=True)
class PeftSide:
    """PEFT's batch as a side; its prompts are those that ``ours`` sends."""

    batch: PeftBatch
    ours: EngineSide
    adapters: Sequence[str]

    async def play(self, number: int) -> Round:
        """Make round ``number``: one batch, each row with its adapter."""
        load = self.ours.workload
        prompts = [
            await self.ours.engine.prompt(self.ours.prompter.messages(number, index))
            for index in range(load.concurrency)
        ]
        names = [self.adapters[index % len(self.adapters)] for index in range(load.concurrency)]
        steps = load.output_tokens - 1
        times = await asyncio.to_thread(self.batch.step_times, prompts, names, steps)
        ended_s = perf_counter()
        begun_s = ended_s - sum(times)
        ends = tuple(accumulate(times, initial=begun_s))
        return Round(
            timelines=tuple(
                Timeline(
                    model=name,
                    sent_s=begun_s,
                    text_s=ends,
                    prompt_tokens=len(prompt),
                    output_tokens=len(times),
                )
                for name, prompt in zip(names, prompts, strict=True)
            ),
            begun_s=begun_s,
            ended_s=ended_s,
        )


def steady(played: Round) -> Round:
    """The part of ``played`` in which all of its replies were being written.

    A reply's tokens in it are its chunks after the first, which ends a step before it.

    Raises:
        BenchFailed: there was no such time.
    """
    done = [each for each in played.timelines if each.failure is None]
    if not done:
        return played
    begun_s = max(each.text_s[0] for each in done)
    ended_s = min(each.text_s[-1] for each in done)
    if begun_s >= ended_s:
        raise BenchFailed("The rows never decoded together; ask for more --steps.")
    cut = [
        replace(each, text_s=inside, sent_s=begun_s, output_tokens=len(inside) - 1)
        for each in done
        if (inside := tuple(moment for moment in each.text_s if begun_s <= moment <= ended_s))
    ]
    broken = [each for each in played.timelines if each.failure is not None]
    return replace(played, timelines=(*cut, *broken), begun_s=begun_s, ended_s=ended_s)


def without_prompts(report: Report) -> Report:
    """The report without the figures that count from a request's sending."""
    replaced = {"ttft_ms": None, "e2e_ms": None, "tpot_ms": None, "short": 0}
    return msgspec.structs.replace(
        report,
        sides={n: msgspec.structs.replace(s, **replaced) for n, s in report.sides.items()},
        each_round={
            name: [msgspec.structs.replace(one, **replaced) for one in rounds]
            for name, rounds in report.each_round.items()
        },
        ratios={name: each for name, each in report.ratios.items() if name != "ttft_ms"},
    )
