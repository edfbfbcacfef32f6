"""``bench turn``: time to the first token of a chat's later turn, with and without prefix cache."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass

from admin.bench.chat_turns import ChatShape, ChatSide
from admin.bench.http_client import HttpClient
from admin.bench.load import Side, alternate
from admin.bench.models import obtain_adapters
from admin.bench.own_server import OWN_KEY, own_server
from admin.bench.report import Report, report_of
from admin.bench.serve import serve_options, token_counter, told
from admin.bench.timeline import Round
from admin.bench.workload import Prompter, Workload
from admin.commands.base import obtain_base
from admin.context import AdminContext

WARM_UP_CHAT = -1
NO_CACHE = "--no-prefix-cache"


@dataclass(frozen=True, kw_only=True)
class TurnOptions:
    """The options of ``bench turn``."""

    shape: ChatShape
    rounds: int
    base: str
    weights: str = "auto"
    serve_options: str = ""
    adapters: int = 0
    seed: int = 0


def measure_turn(admin: AdminContext, asked: TurnOptions) -> Report:
    """Have the same chats with two servers of our own, of which one forgets each prompt."""
    base = obtain_base(admin, asked.base)
    models = obtain_adapters(admin, base, asked.adapters) or [base.name]
    shape = asked.shape
    load = Workload(
        concurrency=1,
        requests=1,
        prompt_tokens=shape.history_tokens + shape.question_tokens,
        output_tokens=shape.reply_tokens,
        seed=asked.seed,
    )
    options = serve_options(base, asked.weights, load, asked.serve_options)
    prompter = Prompter(load, token_counter(base))
    with ExitStack() as stack:
        servers = {"with cache": options, "without": [*options, NO_CACHE]}
        sides = {
            name: ChatSide(
                client=HttpClient(
                    stack.enter_context(own_server(admin.home.root, own, admin.output.say)),
                    api_key=OWN_KEY,
                ),
                model=models[0],
                shape=shape,
                prompter=prompter,
            )
            for name, own in servers.items()
        }
        played = asyncio.run(_play(admin, asked.rounds, sides))
    return report_of("turn", told(asked), shape.reply_tokens, played)


async def _play(
    admin: AdminContext, rounds: int, sides: dict[str, ChatSide]
) -> dict[str, list[Round]]:
    def tell(name: str, number: int, played: Round) -> None:
        last = played.timelines[0]
        if last.failure is None:
            ttft = f"{1000 * last.ttft_s:.0f} ms to the first token"
            admin.output.say(f"chat {number + 1}, {name}: {ttft}")

    for side in sides.values():
        await side.play(WARM_UP_CHAT)
    return await alternate([Side(name, side.play) for name, side in sides.items()], rounds, tell)
