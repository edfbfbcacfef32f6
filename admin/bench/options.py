"""Options that several benchmarks have, and the load that some of them describe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from admin.commands.base import BENCH_BASE
from admin.options import Decorator, options

if TYPE_CHECKING:
    from admin.bench.workload import Workload


def count_option(name: str, default: int, text: str, least: int = 1) -> Decorator:
    """An option whose value is a number of things."""
    return click.option(name, type=click.IntRange(least), default=default, help=text)


def load_options(
    *, concurrency: int, requests: int, prompt_tokens: int, output_tokens: int, rounds: int
) -> Decorator:
    """The size of the load, with the defaults of the one benchmark."""
    return options(
        count_option("--concurrency", concurrency, "Requests that run at any time."),
        count_option("--requests", requests, "Requests of one round."),
        count_option("--prompt-tokens", prompt_tokens, "Length of a prompt, template included."),
        count_option("--output-tokens", output_tokens, "Length of a reply.", least=2),
        count_option("--rounds", rounds, "How often each side plays; sides take turns."),
        count_option("--seed", 0, "Chooses the prompts.", least=0),
    )


range_option = click.option(
    "--range-ratio",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    metavar="R",
    help="Draw each request's lengths from 1 - R to 1 + R times those asked.",
)
base_option = click.option(
    "--base", default=BENCH_BASE, help="The base: `bench-0.6b`, or any that `serve` takes."
)
weights_option = click.option(
    "--weights", default="auto", help="Number format of the base's weights, as for `serve`."
)
device_option = click.option("--device", default="auto", help="Where the model runs.")
serve_options_option = click.option(
    "--serve-options",
    default="",
    metavar="TEXT",
    help="Further options of `lccc-admin serve` for our own server, in one quoted text.",
)
adapters_option = click.option(
    "--adapters",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Ask N random adapters in turn, bench-1 to bench-N; they are made where missing.",
)


class JsonObjects(click.ParamType[tuple[dict[str, Any], ...]]):
    """One JSON object, or a list of them."""

    name = "JSON"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[dict[str, Any], ...]:
        if isinstance(value, tuple):
            return value
        try:
            found = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is not JSON: {error}.", param, ctx)
        objects = found if isinstance(found, list) else [found]
        if not objects or not all(isinstance(each, dict) for each in objects):
            self.fail("needed is a JSON object, or a list of at least one.", param, ctx)
        return tuple(objects)


def workload_of(given: dict[str, Any]) -> Workload:
    """The load that the options describe, which are taken out of ``given``."""
    from admin.bench.workload import Workload

    sizes = ("concurrency", "requests", "prompt_tokens", "output_tokens", "seed")
    return Workload(
        **{name: given.pop(name) for name in sizes},
        shared_prefix_tokens=given.pop("shared_prefix_tokens", 0),
        range_ratio=given.pop("range_ratio", 0.0),
    )
