"""``lccc-admin data``: raw dialogue files become datasets; look at what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapters.base import POCKET
from adapters.errors import BaseNotFound
from admin import dataset_view as view
from admin.context import AdminContext, pass_admin
from admin.options import options, set_option
from admin.progress import passing_bar

if TYPE_CHECKING:
    from adapters.base import Base
    from training.data.dialogue import Dialogue
    from training.data.encode import Encoding
    from training.data.preview import Preview
    from training.data.stats import SplitStats, TokenStats

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def data() -> None:
    """Prepare dialogues for training and look at them."""


@data.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=EXISTING_FILE)
@click.option("--name", required=True, help="What the dataset will be called.")
@click.option("--valid", type=EXISTING_FILE, help="Dialogues for validation.")
@click.option("--test", type=EXISTING_FILE, help="Dialogues for the final test.")
@click.option("--rules", default="default", help="Cleaning rules: `default`, `lccc`, a TOML file.")
@set_option("Override one cleaning rule.")
@click.option("--seed", default=0, help="Another seed draws other validation and test dialogues.")
@click.option(
    "--valid-share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.01,
    help="Drawn for validation where no file provides it.",
)
@click.option(
    "--test-share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.01,
    help="Drawn for the test where no file provides it.",
)
@click.option("--overwrite", is_flag=True, help="Replace an older dataset of this name.")
@click.option(
    "--no-keep",
    is_flag=True,
    help="Leave nothing of a preparation that is stopped, for the next time to go on from.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the dataset's manifest as JSON.")
@pass_admin
def prepare(  # noqa: PLR0913 - one parameter an option
    admin: AdminContext,
    *,
    files: tuple[Path, ...],
    name: str,
    valid: Path | None,
    test: Path | None,
    rules: str,
    overrides: tuple[str, ...],
    seed: int,
    valid_share: float,
    test_share: float,
    overwrite: bool,
    no_keep: bool,
    as_json: bool,
) -> None:
    """Clean, split and store the dialogues of FILE... as one dataset.

    A file may be LCCC's JSON (a list of lists of strings, or an object with train, valid and
    test), JSON Lines (["...", "..."] or {"dialog": [...]} a line) or tab-separated text, or hold
    messages in OpenAI's or ShareGPT's form; each also gzipped. A preparation that was stopped
    goes on where it was when the same command is given again.
    """
    from training.data import dataset
    from training.data.rules import read_rules

    loaded = read_rules(rules, overrides)
    with passing_bar(admin.output, "preparing", "" if as_json else "bytes") as on_progress:
        prepared = dataset.prepare(
            files,
            name,
            admin.home.datasets,
            valid=valid,
            test=test,
            rules=loaded,
            seed=seed,
            validation_share=valid_share,
            test_share=test_share,
            overwrite=overwrite,
            keeps=not no_keep,
            on_progress=on_progress,
            say=admin.output.say,
        )
    if as_json:
        admin.output.json(prepared.manifest)
        return
    view.show_summary(admin.output, prepared.manifest, prepared.path)
    admin.output.say(f"\nNext: lccc-admin data show {name}")
    admin.output.say(f"      lccc-admin train --data {name} --name ADAPTER")


@data.command("list")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the manifests as JSON, and what is broken."
)
@pass_admin
def list_(admin: AdminContext, as_json: bool) -> None:
    """List the prepared datasets, broken ones with the reason."""
    from training.data.catalogue import read_catalogue

    found = read_catalogue(admin.home.datasets)
    if as_json:
        admin.output.json({"datasets": list(found.datasets.values()), "broken": found.broken})
        return
    if not found.datasets and not found.broken:
        admin.output.say("No dataset yet. `lccc-admin data prepare FILE --name NAME` makes one.")
    if found.datasets:
        view.show_list(admin.output, found.datasets)
    for name, reason in found.broken.items():
        admin.output.warn(f"{name} is broken: {reason}")


@data.command()
@click.argument("name")
@click.option("--examples", default=3, type=click.IntRange(min=0), help="How many to show.")
@click.option("--base", help="Show its tokens.  [default: pocket, if it is built]")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@pass_admin
def show(admin: AdminContext, name: str, examples: int, base: str | None, as_json: bool) -> None:
    """Show the size of a dataset, how it was cleaned, and what a model learns from it."""
    from training.data.dataset import PreparedDataset
    from training.data.manifest import LENGTH_CLASS_CHARACTERS
    from training.data.preview import DEFAULT

    dataset = PreparedDataset.open(admin.home.datasets, name)
    dialogues = dataset.split("train")[:examples]
    found = _base(admin, base)
    previews = _previews(dialogues, found, DEFAULT, one_by_one=False)
    read_by = found.name if found else None
    if as_json:
        shown = _as_data(dialogues, previews)
        admin.output.json({"manifest": dataset.manifest, "base": read_by, "examples": shown})
        return
    view.show_summary(admin.output, dataset.manifest, dataset.path)
    lengths = dataset.manifest.splits["train"].lengths
    view.show_lengths(
        admin.output, "Characters a dialogue (train)", lengths, LENGTH_CLASS_CHARACTERS
    )
    if any(rule.examples for rule in dataset.manifest.cleaning.rules):
        view.show_rule_examples(admin.output, dataset.manifest.cleaning)
    if previews:
        view.show_previews(admin.output, previews, read_by)


# Of the recipe, what stands under ``[prompt]`` counts here.
recipe_options = options(
    click.option("--base", help="Whose tokens.  [default: pocket, if it is built]"),
    click.option("--recipe", help="A recipe's name or file.  [default: the LCCC one]"),
    set_option("Override one recipe field, such as prompt.roles."),
)


@data.command()
@click.argument("name")
@click.option(
    "--split",
    type=click.Choice(("train", "validation", "test")),
    default="train",
    help="Which dialogues to show.",
)
@click.option("--from", "start", default=1, type=click.IntRange(1), help="The first dialogue.")
@click.option("--examples", default=3, type=click.IntRange(1), help="How many to show.")
@click.option("--tokens", is_flag=True, help="Show every token by itself.")
@recipe_options
@click.option("--json", "as_json", is_flag=True, help="Print dialogues and spans as JSON.")
@pass_admin
def preview(  # noqa: PLR0913 - one parameter an option
    admin: AdminContext,
    *,
    name: str,
    split: str,
    start: int,
    examples: int,
    tokens: bool,
    base: str | None,
    recipe: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show dialogues as a training with this recipe would see them; what is learnt is green."""
    from training.data.dataset import PreparedDataset

    dialogues = PreparedDataset.open(admin.home.datasets, name).split(split)
    chosen = dialogues[start - 1 : start - 1 + examples]
    if not chosen:
        raise click.UsageError(f"--from: the {split} split has {len(dialogues):,} dialogues.")
    found = _base(admin, base or (POCKET if tokens else None))
    previews = _previews(chosen, found, _encoding(recipe, overrides), one_by_one=tokens)
    if as_json:
        admin.output.json(_as_data(chosen, previews))
    else:
        view.show_previews(admin.output, previews, found.name if found else None, first=start)


@data.command()
@click.argument("name")
@recipe_options
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Draw histograms.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@pass_admin
def stats(
    admin: AdminContext,
    *,
    name: str,
    base: str | None,
    recipe: str | None,
    overrides: tuple[str, ...],
    svg: Path | None,
    as_json: bool,
) -> None:
    """Show lengths, turns, repeated dialogues, and what padding would waste.

    With a base, dialogues become tokens as `train` would make them, and are kept for it.
    """
    from training.data.dataset import PreparedDataset
    from training.data.stats import dataset_stats, token_stats
    from training.data.token_cache import encode_split, load_tokenizer

    if svg and not svg.parent.is_dir():
        raise click.FileError(str(svg), f"there is no directory {svg.parent}; make it first")
    dataset = PreparedDataset.open(admin.home.datasets, name)
    encoding, found = _encoding(recipe, overrides), _base(admin, base)
    with passing_bar(admin.output, "counting") as on_progress:
        splits = dataset_stats(dataset, on_progress)
    tokens = None
    if found:
        with passing_bar(admin.output, "encoding") as on_progress:
            files = encode_split(
                dataset, "train", found, load_tokenizer(found.path), encoding, on_progress
            )
        tokens = token_stats(files, found.name, encoding.max_length)
    if as_json:
        admin.output.json({"splits": splits, "tokens": tokens})
    else:
        view.show_stats(admin.output, splits, tokens)
    if svg:
        _draw(svg, splits["train"], tokens)
        admin.output.say(f"Histograms: {svg}")


def _draw(path: Path, train: SplitStats, tokens: TokenStats | None) -> None:
    from training.data.chart import Panel, histogram_svg

    panels = [
        Panel("Characters a dialogue", train.characters),
        Panel("Utterances a dialogue", train.utterances),
    ]
    if tokens:
        panels.append(Panel(f"Tokens a sequence ({tokens.base})", tokens.sequences))
    try:
        path.write_text(histogram_svg(panels), encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(path), error.strerror or "cannot be written") from error


def _base(admin: AdminContext, name: str | None) -> Base | None:
    """The base whose tokens are shown: the one asked for, or pocket if it is here."""
    from adapters.base import find_base

    try:
        return find_base(name or POCKET, admin.home)
    except BaseNotFound:
        if name:
            raise
        return None


def _encoding(recipe: str | None, overrides: Sequence[str]) -> Encoding:
    """How a recipe turns dialogues into tokens."""
    from training.planning.plan import encoding_of
    from training.recipe import DEFAULT_RECIPE, read_recipe

    return encoding_of(read_recipe(recipe or DEFAULT_RECIPE, overrides))


def _previews(
    dialogues: Sequence[Dialogue], base: Base | None, encoding: Encoding, *, one_by_one: bool
) -> list[list[Preview]]:
    """The sequences of each dialogue; without a base, by roles alone."""
    from training.data.preview import preview_roles, preview_tokens
    from training.data.token_cache import load_tokenizer

    if base is None:
        return [
            preview_roles(dialogue, encoding.roles, encoding.system_prompt)
            for dialogue in dialogues
        ]
    tokenizer = load_tokenizer(base.path)
    return [
        preview_tokens(tokenizer, dialogue, encoding, one_by_one=one_by_one)
        for dialogue in dialogues
    ]


def _as_data(
    dialogues: Sequence[Dialogue], previews: Sequence[Sequence[Preview]]
) -> list[dict[str, object]]:
    return [
        {"dialog": dialogue.utterances, "sequences": sequences}
        for dialogue, sequences in zip(dialogues, previews, strict=True)
    ]
