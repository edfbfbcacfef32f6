"""``lccc-admin bench``: how quick a server or the engine is, alone or beside a peer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from admin.commands.base import BENCH_BASE
from admin.context import AdminContext, pass_admin

if TYPE_CHECKING:
    from admin.bench.workload import Workload

Command = TypeVar("Command", bound=Callable[..., Any])


def options(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options in one decorator, in the order in which help shows them."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def count_option(name: str, default: int, text: str, least: int = 1) -> Callable[[Any], Any]:
    """An option whose value is a number of things."""
    return click.option(name, type=click.IntRange(least), default=default, help=text)


def load_options(
    *, concurrency: int, requests: int, prompt_tokens: int, output_tokens: int, rounds: int
) -> Callable[[Command], Command]:
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
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
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


@click.group()
def bench() -> None:
    """Measure a server, the engine or trainings, alone or in turn with a peer.

    TTFT, ITL, TPOT and throughput are what vLLM's benchmark calls so. Replies have their full
    length, prompts differ in every request, and the base `bench-0.6b` (the shape of Qwen3-0.6B,
    random weights) is made when it is first needed. Ratios in one run are worth more than seconds.
    """


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


TRL = "A virtual environment (or a Python) that has TRL, bitsandbytes, PEFT and psutil."
PEAK = "16-bit TFLOP/s that the GPU could do, for MFU.  [default: as its name says]"
TRAIN_SIDES = ("exact", "padded", "trl", "throughput", "trl-packed")
EXTRA_BODY = (
    "Fields to merge into each request; null takes one out. Of a list, the objects take turns."
)


@bench.command("serve")
@click.option("--url", help="A server's API, e.g. http://127.0.0.1:8000/v1.  [default: our own]")
@click.option("--model", "models", multiple=True, help="A model to ask; several take turns.")
@adapters_option
@click.option("--api-key", help="Sent as a bearer token.")
@click.option("--extra-body", type=JsonObjects(), default="{}", help=EXTRA_BODY)
@click.option("--compare", metavar="URL", help="A peer's API; the two are measured in turn.")
@click.option("--compare-model", "compare_models", multiple=True, help="As --model, for the peer.")
@click.option("--compare-api-key", help="As --api-key, for the peer.")
@click.option("--compare-extra-body", type=JsonObjects(), default="{}", help=EXTRA_BODY)
@load_options(concurrency=16, requests=32, prompt_tokens=64, output_tokens=48, rounds=3)
@range_option
@count_option("--shared-prefix-tokens", 0, "Tokens that all prompts begin with.", least=0)
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.0, help="0 is greedy.")
@click.option("--warmup", type=click.IntRange(0), help="First requests, not measured.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1), default=600.0, help="Seconds a request."
)
@click.option("--tokenizer", metavar="BASE", help="Base that counts tokens, for a --url.")
@base_option
@weights_option
@serve_options_option
@json_option
@pass_admin
def bench_serve(admin: AdminContext, /, as_json: bool, **given: Any) -> None:
    """Load a server over HTTP with --concurrency requests at any time.

    Without --url, `lccc-admin serve` is started with --base and stopped afterwards. Prompts have
    exactly --prompt-tokens where the base is known (--base, or --tokenizer with a --url).
    A request that fails is counted and named, and the exit code is then 1.
    """
    from admin.bench.report import show
    from admin.bench.serve import ServeOptions, measure

    if given["url"] and given["adapters"]:
        raise click.UsageError("--adapters is for our own server; with --url, name each --model.")
    if given["tokenizer"] and not given["url"]:
        raise click.UsageError("--tokenizer is for a --url; our own server has that of its base.")
    asked = ServeOptions(workload=_workload(given), **given)
    show(admin.output, measure(admin, asked), as_json=as_json)


@bench.command("engine")
@load_options(concurrency=16, requests=32, prompt_tokens=64, output_tokens=48, rounds=3)
@range_option
@adapters_option
@click.option("--without-adapters", is_flag=True, help="Measure the base in turn with --adapters.")
@base_option
@weights_option
@device_option
@json_option
@pass_admin
def bench_engine(admin: AdminContext, /, as_json: bool, **given: Any) -> None:
    """Load the engine in this process, without HTTP, and show what its steps spend time on."""
    from admin.bench.engine import EngineOptions, measure_engine
    from admin.bench.report import show

    if given["without_adapters"] and not given["adapters"]:
        raise click.UsageError("--without-adapters compares with --adapters N; say how many.")
    asked = EngineOptions(workload=_workload(given), **given)
    show(admin.output, measure_engine(admin, asked), as_json=as_json)


@bench.command("turn")
@count_option("--turn", 5, "The turn that is measured.", least=2)
@count_option("--history-tokens", 512, "Tokens of all turns before it.")
@count_option("--question-tokens", 8, "Tokens that the user says in it.")
@count_option("--reply-tokens", 16, "Length of each reply.", least=2)
@count_option("--rounds", 5, "Chats with each of the two servers, which take turns.")
@count_option("--seed", 0, "Chooses what is said.", least=0)
@adapters_option
@base_option
@weights_option
@serve_options_option
@json_option
@pass_admin
def bench_turn(admin: AdminContext, /, as_json: bool, **given: Any) -> None:
    """Time the first token of a chat's fifth turn, with and without the prefix cache.

    Two servers of our own hold the same chats; one of them runs with --no-prefix-cache.
    """
    from admin.bench.chat_turns import ChatShape
    from admin.bench.report import show
    from admin.bench.turn import TurnOptions, measure_turn

    shape = ChatShape(
        turns=given.pop("turn"),
        history_tokens=given.pop("history_tokens"),
        question_tokens=given.pop("question_tokens"),
        reply_tokens=given.pop("reply_tokens"),
    )
    show(admin.output, measure_turn(admin, TurnOptions(shape=shape, **given)), as_json=as_json)


@bench.command("itl")
@load_options(concurrency=32, requests=32, prompt_tokens=32, output_tokens=64, rounds=3)
@adapters_option
@base_option
@weights_option
@device_option
@json_option
@pass_admin
def bench_itl(admin: AdminContext, /, as_json: bool, **given: Any) -> None:
    """Compare the time between tokens over HTTP with that of the engine in this process."""
    from admin.bench.engine import EngineOptions
    from admin.bench.itl import measure_itl
    from admin.bench.report import show

    asked = EngineOptions(workload=_workload(given), **given)
    show(admin.output, measure_itl(admin, asked), as_json=as_json)


@bench.command("host")
@load_options(concurrency=64, requests=64, prompt_tokens=32, output_tokens=256, rounds=5)
@adapters_option
@click.option("--frames", is_flag=True, help="Make every token an event of a stream, too.")
@click.option("--http", is_flag=True, help="Serve the streams to clients, too.")
@click.option("--base", "base_name", default="pocket", help="The base: `pocket`, or any other.")
@json_option
@pass_admin
def bench_host(
    admin: AdminContext, /, as_json: bool, rounds: int, base_name: str, **given: Any
) -> None:
    """Show what a token costs the host of a GPU; none is needed, for nothing is computed.

    Steps are planned, prepared, read and handed over as on a GPU, but on tensors of the CPU. What
    is missing is the driver: replaying graphs, copies, waiting.
    """
    from admin.bench.host import measure_host

    workload = _workload(given)
    found = measure_host(admin, workload, rounds, base_name, **given)
    if as_json:
        admin.output.json(found)
    else:
        admin.output.table(("the host's part of a token", "median (least to most)"), found.rows())


@bench.command("sampling")
@load_options(concurrency=32, requests=32, prompt_tokens=32, output_tokens=48, rounds=3)
@base_option
@weights_option
@device_option
@json_option
@pass_admin
def bench_sampling(admin: AdminContext, /, as_json: bool, **given: Any) -> None:
    """Show sampling's share of a decode step, with every sampling parameter on and greedily."""
    from admin.bench.engine import EngineOptions, measure_sampling
    from admin.bench.report import show

    asked = EngineOptions(workload=_workload(given), **given)
    show(admin.output, measure_sampling(admin, asked), as_json=as_json)


@bench.command("speculation")
@load_options(concurrency=1, requests=4, prompt_tokens=64, output_tokens=160, rounds=3)
@count_option("--speculative-tokens", 7, "Tokens to guess ahead at most.")
@count_option("--candidates", 32, "Prompts to try; those are taken whose replies copy most.")
@base_option
@weights_option
@device_option
@json_option
@pass_admin
def bench_speculation(admin: AdminContext, /, as_json: bool, **given: Any) -> None:
    """Compare replies that are guessed ahead with the same replies that are not.

    Some replies of `bench-0.6b` say again and again what they have said, as one does that copies
    a text with changes; with as many candidates as requests, all are measured, whatever they copy.
    """
    from admin.bench.report import show
    from admin.bench.speculation import SpeculationOptions, measure_speculation

    asked = SpeculationOptions(workload=_workload(given), **given)
    show(admin.output, measure_speculation(admin, asked), as_json=as_json)


@bench.command("peft")
@count_option("--rows", 8, "Rows of the batch.")
@count_option("--adapters", 8, "Random adapters, which the rows take in turn.")
@count_option("--context", 256, "Tokens of each row's prompt.")
@count_option("--steps", 32, "Decode steps of one round.", least=2)
@count_option("--rounds", 3, "How often each side plays; sides take turns.")
@count_option("--seed", 0, "Chooses the prompts.", least=0)
@base_option
@weights_option
@device_option
@json_option
@pass_admin
def bench_peft(admin: AdminContext, /, as_json: bool, **given: Any) -> None:
    """Compare decode steps of the engine with those of PEFT's mixed batch, both in this process.

    PEFT runs in transformers with `adapter_names`, in bf16 where the device computes it and fp32
    elsewhere. Prompts are not part of the figures.
    """
    from admin.bench.engine import EngineOptions
    from admin.bench.peft import measure_peft
    from admin.bench.report import show

    rows = given.pop("rows")
    given |= {"concurrency": rows, "requests": rows}
    given["prompt_tokens"] = given.pop("context")
    given["output_tokens"] = given.pop("steps") + 1  # the first comes with the prompt
    asked = EngineOptions(workload=_workload(given), **given)
    show(admin.output, measure_peft(admin, asked), as_json=as_json)


@bench.command("records")
@count_option("--steps", 100_000, "Steps of the run, each with an event.")
@count_option("--buckets", 1000, "Points that a curve may have on the screen.")
@count_option("--rounds", 5, "How often the record is read from the beginning.")
@json_option
@pass_admin
def bench_records(
    admin: AdminContext, steps: int, buckets: int, rounds: int, as_json: bool
) -> None:
    """Time the first view of a long run's curves, and the updates after it.

    The record is written into a temporary directory and deleted.
    """
    from admin.bench.records import measure_records

    found = measure_records(steps, rounds, buckets)
    if as_json:
        admin.output.json(found)
    else:
        admin.output.table(("records", "median (least to most)"), found.rows())


@bench.command("quantization")
@click.option("--data", "dataset", required=True, help="The prepared dataset to train on.")
@click.option("--base", "base_name", default="pocket", help="The base to train on.")
@click.option("--recipe", default="pocket", help="A bundled recipe's name, or a TOML file.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one recipe field."
)
@count_option("--rounds", 1, "Pairs of trainings, each from another seed.")
@json_option
@pass_admin
def bench_quantization(
    admin: AdminContext,
    dataset: str,
    base_name: str,
    recipe: str,
    overrides: tuple[str, ...],
    rounds: int,
    as_json: bool,
) -> None:
    """Train on the base in NF4 and on the base as it is, and compare nats per character.

    Data, recipe and seed are the same. The NF4 adapter is measured on its own base and on the base
    as it is, all on the whole validation split. Nothing is registered; all is deleted at the end.
    """
    from admin.bench.quantization import measure_quantization
    from admin.commands.base import obtain_base
    from training.data.dataset import PreparedDataset
    from training.recipe import read_recipe

    resolved = read_recipe(recipe, overrides)
    prepared = PreparedDataset.open(admin.home.datasets, dataset)
    first = resolved.training.seed
    seeds = range(first, first + rounds)
    base = obtain_base(admin, base_name)
    found = measure_quantization(admin, base, prepared, resolved, seeds)
    if as_json:
        admin.output.json(found)
        return
    columns = ("nats per character", f"LoRA, {found.held}", "NF4, as trained", "NF4, as served")
    admin.output.table(columns, found.rows())
    admin.output.say(f"{found.base} on {found.dataset}, {found.dialogues} held-out dialogues.")


@bench.command("train")
@click.option("--trl", type=click.Path(path_type=Path), metavar="VENV", help=TRL)
@click.option(
    "--side",
    "sides",
    multiple=True,
    type=click.Choice(TRAIN_SIDES),
    help="Measure only these.  [default: all that can be]",
)
@count_option("--steps", 1, "Optimiser steps of exact mode in a round.")
@count_option("--rounds", 2, "How often each side plays; sides take turns.")
@count_option(
    "--tokens-per-forward", 1024, "What throughput mode and a packed peer fill.", least=64
)
@count_option("--seed", 0, "Chooses the dialogues.", least=0)
@click.option("--recipe", default="qwen3-0.6b-lccc", help="As for `train`.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As for `train`.")
@click.option("--peak-tflops", type=click.FloatRange(0, min_open=True), help=PEAK)
@base_option
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Where the models train.",
)
@json_option
@pass_admin
def bench_train(admin: AdminContext, /, as_json: bool, **given: Any) -> None:
    """Compare our training with a plain loop and with TRL, on the same dialogues in turn.

    Exact mode plays against micro-batches that are padded to `prompt.max_length`, and against TRL's
    SFTTrainer with dynamic padding; throughput mode against TRL with packing. All have the recipe's
    LoRA, quantisation and gradient checkpointing, and a process of their own; the dialogues are
    random ones in LCCC's shape. Peak memory is allocated on a GPU, or resident on a CPU.
    """
    from admin.bench.train import TrainOptions, measure_train

    found = measure_train(admin, TrainOptions(**given))
    if as_json:
        admin.output.json(found)
    else:
        admin.output.table(found.columns, found.rows())


@bench.command("data")
@count_option(
    "--dialogues", 100_000, "Random dialogues in LCCC's shape; LCCC-base has 6.8 million."
)
@count_option("--rounds", 3, "How often each side plays; sides take turns.")
@count_option("--seed", 0, "Chooses the dialogues.", least=0)
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Of each side.  [default: a processor each; ours fewer where little is to be done]",
)
@base_option
@json_option
@pass_admin
def bench_data(admin: AdminContext, /, as_json: bool, **given: Any) -> None:
    """Compare making tokens of a raw file with `datasets.map`, on the same dialogues in turn.

    Ours reads, cleans, hashes and stores a dataset, and encodes it; the peer makes what
    LLaMA-Factory does: two maps with as many processes, one call of the tokenizer a turn, or in a
    quicker variant a batch. It only takes spaces out. All begin with nothing in every round, and
    must give the same tokens and masks.
    """
    from admin.bench.data import measure_data

    found = measure_data(admin, **given)
    if as_json:
        admin.output.json(found)
    else:
        admin.output.table(found.columns, found.rows())


def _workload(given: dict[str, Any]) -> Workload:
    """The load that the options describe, which are taken out of ``given``."""
    from admin.bench.workload import Workload

    sizes = ("concurrency", "requests", "prompt_tokens", "output_tokens", "seed")
    return Workload(
        **{name: given.pop(name) for name in sizes},
        shared_prefix_tokens=given.pop("shared_prefix_tokens", 0),
        range_ratio=given.pop("range_ratio", 0.0),
    )
