"""``lccc-admin bench``: how quick a server or the engine is, alone or beside a peer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from admin.bench.options import (
    JsonObjects,
    adapters_option,
    base_option,
    count_option,
    device_option,
    load_options,
    range_option,
    serve_options_option,
    weights_option,
    workload_of,
)
from admin.context import AdminContext, pass_admin
from admin.options import json_option, set_option


@click.group()
def bench() -> None:
    """Measure a server, the engine or trainings, alone or in turn with a peer.

    TTFT, ITL, TPOT and throughput are what vLLM's benchmark calls so. Replies have their full
    length, prompts differ in every request, and the base `bench-0.6b` (the shape of Qwen3-0.6B,
    random weights) is made when it is first needed. Ratios in one run are worth more than seconds.
    """


TRL = "A virtual environment (or a Python) that has TRL, bitsandbytes, PEFT and psutil."
PEAK = "16-bit TFLOP/s that the GPU could do, for MFU.  [default: as its name says]"
TRAIN_SIDES = (
    "exact",
    "exact-auto",
    "padded",
    "trl",
    "throughput",
    "throughput-auto",
    "trl-packed",
)
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
    asked = ServeOptions(workload=workload_of(given), **given)
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
    asked = EngineOptions(workload=workload_of(given), **given)
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

    asked = EngineOptions(workload=workload_of(given), **given)
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
    from admin.bench.report import show_table

    workload = workload_of(given)
    found = measure_host(admin, workload, rounds, base_name, **given)
    show_table(admin.output, found, as_json=as_json)


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

    asked = EngineOptions(workload=workload_of(given), **given)
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

    asked = SpeculationOptions(workload=workload_of(given), **given)
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
    asked = EngineOptions(workload=workload_of(given), **given)
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
    from admin.bench.report import show_table

    found = measure_records(steps, rounds, buckets)
    show_table(admin.output, found, as_json=as_json)


@bench.command("quantization")
@click.option("--data", "dataset", required=True, help="The prepared dataset to train on.")
@click.option("--base", "base_name", default="pocket", help="The base to train on.")
@click.option("--recipe", default="pocket", help="A bundled recipe's name, or a TOML file.")
@set_option()
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
    from admin.bench.report import show_table
    from admin.commands.base import obtain_base
    from training.data.dataset import PreparedDataset
    from training.recipe import read_recipe

    resolved = read_recipe(recipe, overrides)
    prepared = PreparedDataset.open(admin.home.datasets, dataset)
    first = resolved.training.seed
    seeds = range(first, first + rounds)
    base = obtain_base(admin, base_name)
    found = measure_quantization(admin, base, prepared, resolved, seeds)
    show_table(admin.output, found, as_json=as_json)
    if not as_json:
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
@set_option("As for `train`.")
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
    LoRA and quantisation, and a process of their own; the dialogues are random ones in LCCC's
    shape. All compute the activations of every layer again (or none, if the recipe's gradient
    checkpointing is false), but for our two sides `-auto`, which keep what the memory has room for.
    Peak memory is allocated on a GPU, or resident on a CPU.
    """
    from admin.bench.report import show_table
    from admin.bench.train import TrainOptions, measure_train

    found = measure_train(admin, TrainOptions(**given))
    show_table(admin.output, found, as_json=as_json)


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
    from admin.bench.report import show_table

    found = measure_data(admin, **given)
    show_table(admin.output, found, as_json=as_json)
