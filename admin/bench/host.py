"""``bench host``: what a token costs beside its computation, with a GPU's steps and no GPU."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import patch

import msgspec

from adapters.base import Base
from admin.bench.host_http import served
from admin.bench.in_process import greedy
from admin.bench.load import WARM_UP_ROUND
from admin.bench.models import obtain_adapters
from admin.bench.report import machine
from admin.bench.serve import token_counter
from admin.bench.statistics import Spread
from admin.bench.workload import Prompter, Workload
from admin.commands.base import obtain_base
from admin.context import AdminContext

if TYPE_CHECKING:
    from server.engine.cuda.idle import Spent
    from server.engine.engine import LocalEngine
    from server.engine.types import Generation

Reader = Callable[["LocalEngine", "Generation"], Awaitable[None]]

# Characters of which replies consist: one token each in most vocabularies.
PIECES = 4096


class HostReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``bench host`` found; :meth:`rows` says what each part is.

    ``parts_us`` are of processor time, so that others' work does not lengthen them; ``wall_us`` is
    of the clock. ``streams`` ran at a time, ``tokens`` were drawn in each round.
    """

    benchmark: str
    machine: dict[str, Any]
    base: str
    adapters: int
    streams: int
    tokens: int
    rounds: int
    wall_us: Spread
    total_us: Spread
    parts_us: dict[str, Spread]

    columns: ClassVar[tuple[str, ...]] = ("the host's part of a token", "median (least to most)")

    def rows(self) -> list[tuple[str, str]]:
        """The figures for a table."""
        timings = {"in all, on the clock": self.wall_us, "in all, of the processor": self.total_us}
        return [
            (f"{name}, µs a token", one.shown(2))
            for name, one in {**timings, **self.parts_us}.items()
        ]


def measure_host(
    admin: AdminContext,
    workload: Workload,
    rounds: int,
    base_name: str,
    *,
    adapters: int = 0,
    frames: bool = False,
    http: bool = False,
) -> HostReport:
    """Let ``workload`` be replied to by an engine whose model computes nothing.

    Requests take so many ``adapters`` in turn, if any. ``frames``: every token is also made an
    event of a chat completion's stream, and dropped. ``http``: all is served as ``lccc-admin
    serve`` does, and read by clients in a process of their own, which is not measured.

    Raises:
        BenchFailed: the clients could not read.
    """
    base = obtain_base(admin, base_name)
    models = obtain_adapters(admin, base, adapters) or [base.name]
    read = None if http else _read_frames if frames else _read_events
    played = asyncio.run(_play(admin, workload, rounds, base, models, read))
    parts = {name: Spread.of([one[name] for one in played]) for name in played[0]}
    wall, total = parts.pop("wall"), parts.pop("total")
    return HostReport(
        benchmark="host",
        machine=machine(),
        base=base.name,
        adapters=adapters,
        streams=workload.concurrency,
        tokens=workload.requests * workload.output_tokens,
        rounds=rounds,
        wall_us=wall,
        total_us=total,
        parts_us=parts,
    )


async def _play(
    admin: AdminContext,
    workload: Workload,
    rounds: int,
    base: Base,
    models: Sequence[str],
    read: Reader | None,
) -> list[dict[str, float]]:
    """The rounds by part; without ``read`` over HTTP."""
    from server.engine.cuda.idle import Spent

    prompter, spent = Prompter(workload, token_counter(base)), Spent()
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(_idle_engine(admin, workload, base, spent))
        if read is None:
            clients = await stack.enter_async_context(served(admin, engine, prompter))
            play = partial(clients.read, prompter, models=models)
        else:
            play = partial(_ask, engine, prompter, models, read)
        await play(WARM_UP_ROUND)
        return [await _measured(partial(play, each), workload, spent) for each in range(rounds)]


@asynccontextmanager
async def _idle_engine(
    admin: AdminContext, workload: Workload, base: Base, spent: Spent
) -> AsyncIterator[LocalEngine]:
    """An engine as it would be on a GPU, but that nothing is computed."""
    from server.engine.config import DEFAULT_CONTEXT, PREFILL_TOKENS, EngineConfig
    from server.engine.cuda.idle import IdleModel
    from server.engine.engine import LocalEngine
    from server.engine.scheduler import Scheduler
    from server.engine.tokenizer import Tokenizer

    config = EngineConfig(
        base=base,
        registry_root=admin.home.registry,
        device="cpu",
        max_running=workload.concurrency,
        max_waiting=workload.requests,
        max_context=max(DEFAULT_CONTEXT, workload.longest),
        max_waiting_tokens=workload.requests * workload.longest,
        prefill_chunk_tokens=PREFILL_TOKENS["cuda"],
    )
    tokens = _texts(Tokenizer(base), base.architecture.vocab_size)
    engine = LocalEngine(config, lambda config: IdleModel(config, tokens, spent))
    with patch.object(Scheduler, "plan", spent.timed("plan", Scheduler.plan)):
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()


def _texts(tokenizer: Any, vocabulary: int) -> list[int]:
    """Tokens that read as text, mixed."""
    ordinary = (token for token in range(vocabulary) if token not in tokenizer.end_tokens)
    texts = [token for token in ordinary if _is_text(tokenizer.piece(token).text)]
    step = 7919  # a prime: neighbours in the vocabulary are alike
    return [texts[at * step % len(texts)] for at in range(min(PIECES, len(texts)))]


def _is_text(piece: bytes) -> bool:
    return bool(piece) and "\N{REPLACEMENT CHARACTER}" not in piece.decode(errors="replace")


async def _read_events(_engine: LocalEngine, generation: Generation) -> None:
    async for _ in generation:
        pass


async def _read_frames(engine: LocalEngine, generation: Generation) -> None:
    from server.replies.chat import ChatReply
    from server.replies.reply import Answer

    answer = Answer(
        id=generation.id, model=engine.base.name, generations=[generation], piece=engine.piece
    )
    async for _ in ChatReply(answer).frames():
        pass


async def _ask(
    engine: LocalEngine, prompter: Prompter, models: Sequence[str], read: Reader, number: int
) -> None:
    """Make round ``number`` and read its replies here."""
    from server.engine.types import GenerationRequest

    load = prompter.workload
    requests = [
        GenerationRequest(
            id=f"bench-{number}-{index}",
            model=models[index % len(models)],
            prompt=await engine.prompt(prompter.messages(number, index)),
            sampling=greedy(load),
        )
        for index in range(load.requests)
    ]
    waiting = iter(requests)

    async def reader() -> None:
        for request in waiting:
            await read(engine, await engine.submit(request))

    async with asyncio.TaskGroup() as group:
        for _ in range(load.concurrency):
            group.create_task(reader())


async def _measured(
    play: Callable[[], Awaitable[None]], load: Workload, spent: Spent
) -> dict[str, float]:
    """Microseconds a token of what ``play`` plays, by part."""
    spent.by_part.clear()
    begun_s, cpu_s, own_s = time.perf_counter(), time.process_time(), time.thread_time()
    await play()
    taken = {
        "wall": time.perf_counter() - begun_s,
        "total": time.process_time() - cpu_s,
        "received and read by the event loop": time.thread_time() - own_s,
        **spent.by_part,
    }
    known = sum(taken.values()) - taken["wall"] - taken["total"]
    taken["accepted and handed over"] = taken["total"] - known
    tokens = load.requests * load.output_tokens
    return {name: 1e6 * seconds / tokens for name, seconds in taken.items()}
