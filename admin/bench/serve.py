"""``bench serve``: a server over HTTP, our own or another's, alone or in turn with a peer."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import msgspec

from adapters.base import Base
from admin.bench.errors import BenchFailed
from admin.bench.http_client import HttpClient
from admin.bench.http_side import HttpSide
from admin.bench.load import Side, alternate
from admin.bench.models import obtain_adapters
from admin.bench.own_server import OWN_KEY, own_server
from admin.bench.report import Report, report_of
from admin.bench.timeline import Round
from admin.bench.workload import CountTokens, Prompter, Workload
from admin.commands.base import obtain_base
from admin.context import AdminContext

DEFAULT_RUNNING = 16  # of `serve`


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options of ``bench serve``."""

    workload: Workload
    rounds: int
    warmup: int | None = None
    temperature: float = 0.0
    timeout_s: float = 600.0

    base: str
    weights: str = "auto"
    serve_options: str = ""
    adapters: int = 0

    url: str | None = None
    tokenizer: str | None = None
    models: tuple[str, ...] = ()
    api_key: str | None = None
    extra_body: tuple[Mapping[str, Any], ...] = ({},)

    compare: str | None = None
    compare_models: tuple[str, ...] = ()
    compare_api_key: str | None = None
    compare_extra_body: tuple[Mapping[str, Any], ...] = ({},)


def measure(admin: AdminContext, asked: ServeOptions) -> Report:
    """Run the benchmark.

    Raises:
        BenchFailed: a server does not start or cannot be measured at all.
    """
    with ExitStack() as stack:
        models: Sequence[str] = asked.models
        base: Base | None
        if asked.url is None:
            base = obtain_base(admin, asked.base)
            models = models or obtain_adapters(admin, base, asked.adapters) or [base.name]
            options = serve_options(base, asked.weights, asked.workload, asked.serve_options)
            url = stack.enter_context(own_server(admin.home.root, options, admin.output.say))
        else:
            url = asked.url
            base = obtain_base(admin, asked.tokenizer) if asked.tokenizer else None
        prompter = Prompter(asked.workload, token_counter(base) if base else None)
        played = asyncio.run(_play(admin, asked, url, models, prompter))
    return report_of("serve", told(asked), asked.workload.output_tokens, played)


async def _play(
    admin: AdminContext, asked: ServeOptions, url: str, models: Sequence[str], prompter: Prompter
) -> dict[str, list[Round]]:
    api_key = asked.api_key if asked.url else OWN_KEY
    client = HttpClient(url, api_key=api_key, timeout_s=asked.timeout_s)
    sides = {"server": await _side(asked, client, models, prompter, asked.extra_body)}
    if asked.compare is not None:
        peer = HttpClient(asked.compare, api_key=asked.compare_api_key, timeout_s=asked.timeout_s)
        extra = asked.compare_extra_body
        sides["peer"] = await _side(asked, peer, asked.compare_models, prompter, extra)
    for side in sides.values():
        count = max(len(side.models), asked.workload.concurrency)
        await side.warm_up(count if asked.warmup is None else asked.warmup)
    playing = [Side(name, side.play) for name, side in sides.items()]
    return await alternate(playing, asked.rounds, teller(admin))


async def _side(
    asked: ServeOptions,
    client: HttpClient,
    models: Sequence[str],
    prompter: Prompter,
    extra: Sequence[Mapping[str, Any]],
) -> HttpSide:
    """A server as a side; without ``models``, its first."""
    known = models or (await client.models())[:1]
    if not known:
        raise BenchFailed(f"{client.url} serves no model; name one with --model.")
    return HttpSide(
        client=client,
        models=known,
        prompter=prompter,
        extra=extra,
        temperature=asked.temperature,
    )


def serve_options(base: Base, weights: str, workload: Workload, further: str = "") -> list[str]:
    """Options of ``lccc-admin serve`` with room for ``workload``, then ``further`` ones."""
    running = max(DEFAULT_RUNNING, workload.concurrency)
    needed = workload.prompt_tokens + workload.output_tokens
    options = {"--base": base.name, "--weights": weights, "--max-running": str(running)}
    if needed > _default_context():
        options["--max-context"] = str(needed)
    return [*(word for option in options.items() for word in option), *shlex.split(further)]


def _default_context() -> int:
    from server.engine.config import DEFAULT_CONTEXT

    return DEFAULT_CONTEXT


def token_counter(base: Base) -> CountTokens:
    """Counts the tokens of conversations as the server of ``base`` does."""
    from server.engine.tokenizer import Tokenizer

    tokenizer = Tokenizer(base)
    return lambda messages: len(tokenizer.prompt(messages))


def teller(admin: AdminContext) -> Callable[[str, int, Round], None]:
    """Says in a line what each round gave. No bar: drawing one costs time of the same cores."""

    def tell(side: str, number: int, played: Round) -> None:
        done = [each for each in played.timelines if each.failure is None]
        rate = sum(each.output_tokens for each in done) / (played.ended_s - played.begun_s)
        missing = len(played.timelines) - len(done)
        broken = f", {missing} failed" if missing else ""
        admin.output.say(f"round {number + 1}, {side}: {rate:.1f} tokens/s{broken}")

    return tell


def told(asked: Any) -> dict[str, Any]:
    """Options for the record, without secrets."""
    fields: dict[str, Any] = msgspec.to_builtins(asked)
    return {name: value for name, value in fields.items() if not name.endswith("api_key")}
