"""``bench speculation``: what guessing ahead is worth where replies copy from their own text."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import msgspec

from adapters.base import Base
from admin.bench.engine import EngineOptions, engine_settings, play_warm
from admin.bench.errors import BenchFailed
from admin.bench.in_process import EngineSide, greedy, started_engine
from admin.bench.load import must_have_worked
from admin.bench.report import Report, report_of
from admin.bench.serve import token_counter, told
from admin.bench.timeline import Round
from admin.bench.workload import Message, Prompter
from admin.commands.base import obtain_base
from admin.context import AdminContext

_TOGETHER = 16  # candidates that reply at a time


@dataclass(frozen=True, kw_only=True)
class SpeculationOptions(EngineOptions):
    """The options of ``bench speculation``.

    Of ``candidates`` prompts those are measured whose replies copy most; of no more than there are
    requests, all are.
    """

    speculative_tokens: int
    candidates: int


@dataclass(frozen=True)
class ChosenPrompter(Prompter):
    """Asks the same in every round: the requests of round 0 whose numbers are ``chosen``."""

    chosen: tuple[int, ...] = ()

    def messages(self, round_number: int, index: int) -> list[Message]:
        """The conversation of the ``index``-th chosen request; begins again after the last."""
        del round_number
        return super().messages(0, self.chosen[index % len(self.chosen)])


def copied(text: str) -> float:
    """The share of the characters of ``text`` that are as :class:`Guesser` would guess each."""
    from server.engine.guess import Guesser

    guesser, said = Guesser(longest=1), [ord(character) for character in text]
    right = sum(guesser.guess(said[:at], 1) == (said[at],) for at in range(len(said)))
    return right / max(1, len(said))


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
    report = report_of("speculation", told(asked), asked.workload.output_tokens, played)
    share = sum(map(copied, without)) / len(without)
    return msgspec.structs.replace(report, copied_share=share)


async def _play(
    admin: AdminContext, asked: SpeculationOptions, base: Base
) -> dict[str, list[Round]]:
    load = asked.workload
    prompter = Prompter(replace(load, requests=asked.candidates), token_counter(base))
    settings = msgspec.structs.replace(
        engine_settings(admin, asked, base),
        prefix_cache=False,  # else the later rounds of the same prompts would not be as the first
    )
    async with AsyncExitStack() as stack:
        sides = {
            name: EngineSide(
                engine=await stack.enter_async_context(
                    started_engine(msgspec.structs.replace(settings, speculative_tokens=guesses))
                ),
                models=[base.name],
                prompter=prompter,
                sampling=greedy(load),
            )
            for name, guesses in {"guessing": asked.speculative_tokens, "not": 0}.items()
        }
        chosen = ChosenPrompter(
            load, prompter.count, chosen=await _that_copy_most(asked, sides["not"])
        )
        return await play_warm(
            admin, asked, {name: replace(side, prompter=chosen) for name, side in sides.items()}
        )


async def _that_copy_most(asked: SpeculationOptions, side: EngineSide) -> tuple[int, ...]:
    """The numbers of the candidates to measure, those first that copy most.

    Raises:
        BenchFailed: a candidate was refused.
    """
    numbers = range(max(asked.candidates, asked.workload.requests))
    if len(numbers) == asked.workload.requests:
        return tuple(numbers)
    together = replace(side.workload, concurrency=_TOGETHER)
    trying = replace(side, prompter=replace(side.prompter, workload=together))
    tried = await trying.play(0)
    must_have_worked(tried, "The engine")
    shares = [copied(timeline.text) for timeline in tried.timelines]
    ranked = sorted(numbers, key=lambda number: -shares[number])
    return tuple(ranked[: asked.workload.requests])
