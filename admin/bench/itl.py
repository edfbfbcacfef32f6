"""``bench itl``: what HTTP adds to the time between tokens, against the engine in this process."""

from __future__ import annotations

import asyncio

from adapters.base import Base
from admin.bench.engine import EngineOptions, engine_settings
from admin.bench.http_client import HttpClient
from admin.bench.http_side import HttpSide
from admin.bench.in_process import EngineSide, greedy, started_engine
from admin.bench.load import Side, alternate
from admin.bench.models import obtain_adapters
from admin.bench.own_server import OWN_KEY, own_server
from admin.bench.report import Report, report_of
from admin.bench.serve import serve_options, teller, token_counter, told
from admin.bench.timeline import Round
from admin.bench.workload import Prompter
from admin.commands.base import obtain_base
from admin.context import AdminContext


def measure_itl(admin: AdminContext, asked: EngineOptions) -> Report:
    """The same load over HTTP to a server process of our own, and in this process, in turn.

    Both hold the base in memory; the one that does not play waits.
    """
    base = obtain_base(admin, asked.base)
    models = obtain_adapters(admin, base, asked.adapters) or [base.name]
    options = [*serve_options(base, asked.weights, asked.workload), "--device", asked.device]
    with own_server(admin.home.root, options, admin.output.say) as url:
        played = asyncio.run(_play(admin, asked, base, models, url))
    return report_of("itl", told(asked), asked.workload.output_tokens, played)


async def _play(
    admin: AdminContext, asked: EngineOptions, base: Base, models: list[str], url: str
) -> dict[str, list[Round]]:
    prompter = Prompter(asked.workload, token_counter(base))
    over_http = HttpSide(client=HttpClient(url, api_key=OWN_KEY), models=models, prompter=prompter)
    async with started_engine(engine_settings(admin, asked, base)) as engine:
        in_process = EngineSide(
            engine=engine, models=models, prompter=prompter, sampling=greedy(asked.workload)
        )
        count = max(len(models), asked.workload.concurrency)
        await over_http.warm_up(count)
        await in_process.warm_up(count)
        sides = [Side("HTTP", over_http.play), Side("in process", in_process.play)]
        return await alternate(sides, asked.rounds, teller(admin))
