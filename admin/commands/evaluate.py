"""``lccc-admin evaluate``: the base and adapters side by side on one dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from admin.context import AdminContext, pass_admin

if TYPE_CHECKING:
    from adapters.base import Base
    from admin.models import Model
    from training.data.dataset import PreparedDataset
    from training.recipe import Quantization
    from training.scores.evaluation import Conditions, Results

SPLITS = ("test", "validation")
SHOWN = 5
FEW = 50


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--data", "dataset", required=True, help="The prepared dataset to measure on.")
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    show_default="test, or validation where there is no test",
    help="Which part of it.",
)
@click.option("--base", "base_name", help="The base.  [default: that of the adapters]")
@click.option(
    "--dialogues",
    type=click.IntRange(0),
    default=1000,
    help="How many, from the split's beginning, for likelihood; 0: all.",
)
@click.option(
    "--replies", type=click.IntRange(0), default=100, help="How many of them are answered."
)
@click.option("--max-tokens", type=click.IntRange(1), default=100, help="The longest reply.")
@click.option(
    "--prompts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also asked: one conversation a line, turns apart by tabs.  [default: a bundled set]",
)
@click.option(
    "--quantization",
    type=click.Choice(("none", "nf4", "int8")),
    default="none",
    help="How the base is held: as it is, or as QLoRA trains it.",
)
@click.option(
    "--dtype",
    type=click.Choice(("auto", "fp32", "bf16", "fp16")),
    default="auto",
    help="What is computed in; auto is what trainings take.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write everything to a file that ends in .md or .html.",
)
@click.option("--no-record", is_flag=True, help="Keep nothing of what is measured.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every reply.")
@pass_admin
def evaluate(  # noqa: PLR0913, PLR0917 # one a command-line option
    admin: AdminContext,
    models: tuple[str, ...],
    dataset: str,
    split: str | None,
    base_name: str | None,
    dialogues: int,
    replies: int,
    max_tokens: int,
    prompts: Path | None,
    quantization: str,
    dtype: str,
    report: Path | None,
    no_record: bool,
    as_json: bool,
) -> None:
    """Measure MODELs on a dataset: adapters, directories with one, or their base by its name.

    Perplexity is per character, over all target tokens whatever the batching. Replies are greedy,
    each model with its own system prompt. What is measured is written into the manifests of
    registered adapters, whose digests stay as they are; that of the base is kept beside them.
    """
    from admin.models import chosen
    from admin.scores.report import check_path, write_report
    from training.data.dataset import PreparedDataset
    from training.scores.evaluation import Conditions
    from training.scores.questions import PROMPTS_FILE, read_prompts

    if report:
        check_path(report)
    asked = read_prompts(prompts or PROMPTS_FILE)
    prepared = PreparedDataset.open(admin.home.datasets, dataset)
    conditions = Conditions(
        split=split or _first_split(prepared),
        dialogues=dialogues,
        replies=replies,
        max_tokens=max_tokens,
        quantization=_quantization(quantization, dtype),
    )
    with chosen(admin, models, base_name) as (base, found):
        results = _measure(admin, base, found, prepared, asked, conditions)
    if not no_record:
        _record(admin, base, found, results)
    if as_json:
        admin.output.json(results)
    else:
        _show(admin, results)
    if report:
        write_report(results, report)
        admin.output.say(f"Wrote {report}.")


def _first_split(dataset: PreparedDataset) -> str:
    return next((name for name in SPLITS if len(dataset.split(name))), SPLITS[0])


def _quantization(kind: str, dtype: str) -> Quantization:
    from training.recipe import Quantization

    return Quantization(kind=kind, compute_dtype=dtype)  # type: ignore[arg-type] # click has checked


def _measure(
    admin: AdminContext,
    base: Base,
    found: list[Model],
    dataset: PreparedDataset,
    asked: list[list[str]],
    conditions: Conditions,
) -> Results:
    from admin.progress import stages_bar
    from training.scores.evaluation import Candidate, evaluate

    candidates = [
        Candidate(one.name, one.path, one.manifest.system_prompt if one.manifest else None)
        for one in found
    ]
    admin.output.say(f"Measuring {len(found)} on {dataset.name}, {conditions.split} …")
    with stages_bar(admin.output) as on_stage:
        return evaluate(base, candidates, dataset, asked, conditions, on_stage)


def _record(admin: AdminContext, base: Base, found: list[Model], results: Results) -> None:
    """Into the manifests of what is registered, and for the base; directories are not ours."""
    from adapters.base_evaluations import BaseEvaluations
    from adapters.registry import Registry

    registry = Registry(admin.home.registry)
    for model, scored in zip(found, results.models, strict=True):
        evaluation = results.evaluation(scored)
        if model.entry is not None:
            registry.record_evaluation(model.entry, evaluation)
            admin.output.say(f"Recorded in the manifest of '{model.name}'.")
        elif model.path is None:
            BaseEvaluations(admin.home.evaluations).record(base.ref, evaluation)
            admin.output.say(f"Recorded of the base '{model.name}'.")


def _show(admin: AdminContext, results: Results) -> None:
    from admin.scores.report import figures, prompted, replies

    head, *rows = figures(results)
    admin.output.table(head, rows)
    for rows_of in (prompted(results), replies(results, SHOWN)):
        head, *rows = rows_of
        if rows:
            admin.output.data("")
            admin.output.table(head, rows)
    if results.replies < FEW:
        admin.output.warn(
            f"Only {results.replies} replies were compared: what is about texts is rough."
        )
    admin.output.say(
        f"{results.dataset}, {results.split}: {results.dialogues} dialogues, "
        f"{results.replies} replies; {results.conditions}."
    )
