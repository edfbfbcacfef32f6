"""``lccc-admin data``: raw dialogue files become datasets; look at what is in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapters.errors import BaseNotFound
from admin.context import AdminContext, pass_admin

if TYPE_CHECKING:
    from training.data.dialogue import Dialogue
    from training.data.manifest import DatasetManifest
    from training.data.preview import Preview
    from training.data.report import CleaningReport, Rule

DEFAULT_BASE = "pocket"
BAR_COLUMNS = 40
HISTOGRAM_ROWS = 12

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
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one cleaning rule."
)
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
    with _progress() as on_progress:
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
            on_progress=on_progress,
            say=admin.output.say,
        )
    if as_json:
        admin.output.json(prepared.manifest)
        return
    _summary(admin, prepared.manifest, prepared.path)
    admin.output.say(f"\nNext: lccc-admin data show {name}")
    admin.output.say(f"      lccc-admin train --data {name} --name ADAPTER")


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the manifests as JSON.")
@pass_admin
def list_(admin: AdminContext, as_json: bool) -> None:
    """List the prepared datasets."""
    from training.data.dataset import PreparedDataset, known_datasets

    root = admin.home.datasets
    manifests = [PreparedDataset.open(root, name).manifest for name in known_datasets(root)]
    if as_json:
        admin.output.json(manifests)
    elif not manifests:
        admin.output.say("No dataset yet. `lccc-admin data prepare FILE --name NAME` makes one.")
    else:
        rows = [
            (
                manifest.name,
                *(f"{counts.dialogues:,}" for counts in manifest.splits.values()),
                f"{manifest.characters:,}",
                manifest.created[:16].replace("T", " "),
                manifest.sha256[:12],
            )
            for manifest in manifests
        ]
        titles = ("name", "train", "validation", "test", "characters", "prepared (UTC)", "sha256")
        admin.output.table(*_aligned(titles, rows, numbers=range(1, 5)))


@data.command()
@click.argument("name")
@click.option("--examples", default=3, type=click.IntRange(min=0), help="How many to show.")
@click.option("--base", help="Show its tokens.  [default: pocket, if it is built]")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@pass_admin
def show(admin: AdminContext, name: str, examples: int, base: str | None, as_json: bool) -> None:
    """Show the size of a dataset, how it was cleaned, and what a model learns from it."""
    from training.data.dataset import PreparedDataset

    dataset = PreparedDataset.open(admin.home.datasets, name)
    dialogues = dataset.split("train")[:examples]
    read_by, previews = _previews(admin, dialogues, base)
    if as_json:
        shown = [
            {"dialog": dialogue.utterances, "sequences": sequences}
            for dialogue, sequences in zip(dialogues, previews, strict=True)
        ]
        admin.output.json({"manifest": dataset.manifest, "base": read_by, "examples": shown})
        return
    _summary(admin, dataset.manifest, dataset.path)
    _heading(admin, "Characters a dialogue (train)")
    for line in _histogram(dataset.manifest.splits["train"].lengths):
        admin.output.data(line)
    if any(rule.examples for rule in dataset.manifest.cleaning.rules):
        _rule_examples(admin, dataset.manifest.cleaning)
    if previews:
        _examples(admin, previews, read_by)


def _previews(
    admin: AdminContext, dialogues: Sequence[Dialogue], base: str | None
) -> tuple[str | None, list[list[Preview]]]:
    """The base whose tokens are shown, if any is here, and the sequences of each dialogue."""
    from adapters.base import find_base
    from training.data import preview
    from training.data.token_cache import load_tokenizer

    try:
        found = find_base(base or DEFAULT_BASE, admin.home)
    except BaseNotFound:
        if base:
            raise
        return None, [[preview.preview_roles(dialogue.utterances)] for dialogue in dialogues]
    tokenizer = load_tokenizer(found.path)
    return found.name, [preview.preview_tokens(tokenizer, dialogue) for dialogue in dialogues]


def _summary(admin: AdminContext, manifest: DatasetManifest, path: Path) -> None:
    title = click.style(manifest.name, bold=True)
    admin.output.data(f"{title}  {manifest.dialogues:,} dialogues in {path}")
    admin.output.data(f"content sha256 {manifest.sha256}")
    for source in manifest.inputs:
        spaced = ", pre-spaced" if source.pre_spaced else ""
        given = f", as {source.given_as}" if source.given_as else ""
        admin.output.data(f"from {source.name} ({source.size:,} bytes{spaced}{given})")
    _heading(admin, f"Splits (seed {manifest.seed})" if manifest.drawn else "Splits")
    _splits(admin, manifest)
    _heading(admin, f"Cleaning (rules version {manifest.cleaning.version})")
    _cleaning(admin, manifest.cleaning)


def _splits(admin: AdminContext, manifest: DatasetManifest) -> None:
    rows = []
    for name, counts in manifest.splits.items():
        share = {"validation": manifest.validation_share, "test": manifest.test_share}.get(name, 0)
        rows.append(
            (
                name,
                f"{counts.dialogues:,}",
                f"{counts.utterances:,}",
                f"{counts.characters:,}",
                f"{counts.utterances / counts.dialogues:.2f}" if counts.dialogues else "-",
                f"drawn, {share:.1%}" if name in manifest.drawn else "given",
            )
        )
    titles = ("split", "dialogues", "utterances", "characters", "utt/dialogue", "")
    admin.output.table(*_aligned(titles, rows, numbers=range(1, 5)))


def _cleaning(admin: AdminContext, report: CleaningReport) -> None:
    admin.output.data(
        f"dialogues: read {report.read:,}, kept {report.kept:,} "
        f"({report.changed:,} of them changed), dropped {report.dropped:,}"
    )
    rows = [(rule.name, rule.description, _effects(rule)) for rule in report.rules if rule.is_on]
    admin.output.table(("rule", "what it is about", "what it did"), rows)
    off = ", ".join(rule.name for rule in report.rules if not rule.is_on)
    if off:
        admin.output.data(f"off: {off}")


def _effects(rule: Rule) -> str:
    effects = (
        ("changed", rule.utterances_changed, "utterance"),
        ("dropped", rule.utterances_dropped, "utterance"),
        ("dropped", rule.dialogues_dropped, "dialogue"),
    )
    done = [f"{verb} {count:,} {noun}{'s'[: count > 1]}" for verb, count, noun in effects if count]
    return ", ".join(done) or "-"


def _rule_examples(admin: AdminContext, report: CleaningReport) -> None:
    """What each rule did to the first texts that it met."""
    _heading(admin, "What the rules did, for example")
    for rule in report.rules:
        for example in rule.examples:
            after = "dropped" if example.after is None else f"→ {_visible(example.after)}"
            admin.output.data(f"  {rule.name:<15}  {_visible(example.before)}  {after}")


def _visible(text: str) -> str:
    """``text`` in quotes, so that spaces at its ends show; control characters as escapes."""
    return repr(text)


def _heading(admin: AdminContext, text: str) -> None:
    admin.output.data("\n" + click.style(text, bold=True))


def _aligned(
    titles: Sequence[str], rows: Sequence[Sequence[str]], numbers: range
) -> tuple[list[str], list[list[str]]]:
    """The same table with the columns ``numbers`` padded to the right."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    titles, *padded = (
        [cell.rjust(widths[at]) if at in numbers else cell for at, cell in enumerate(row)]
        for row in (titles, *rows)
    )
    return titles, padded


def _histogram(lengths: dict[int, int]) -> Iterator[str]:
    """A bar a class of lengths; the longest hundredth shares the last one."""
    total, covered, bound = sum(lengths.values()), 0, 0
    for bound, count in lengths.items():  # noqa: B007 - wanted after the loop
        covered += count
        if covered >= 0.99 * total:
            break
    width = next(w for w in _round_numbers() if bound < w * HISTOGRAM_ROWS)
    last = bound // width
    counts = [0] * (last + 2)
    for length, count in lengths.items():
        counts[min(length // width, last + 1)] += count
    for row, count in enumerate(counts):
        upper = f"{row * width:>6} – {(row + 1) * width - 1:<6}"
        label = upper if row <= last else f"{row * width:>6} or more"
        bar = _bar(count / max(counts))
        if count or row <= last:
            yield f"{label:<16} {bar:<{BAR_COLUMNS}} {count:>10,}  {count / total:6.1%}"


def _round_numbers() -> Iterator[int]:
    scale = 5
    while True:
        yield from (scale, 2 * scale, 4 * scale)
        scale *= 10


def _bar(share: float) -> str:
    """A bar of at most :data:`BAR_COLUMNS`, exact to an eighth of a character."""
    eighths = round(share * BAR_COLUMNS * 8)
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]


def _examples(admin: AdminContext, previews: list[list[Preview]], read_by: str | None) -> None:
    in_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    _heading(admin, f"Examples as {read_by} reads them" if read_by else "Examples")
    marked = click.style("in green", fg="green") if in_colour else "in ⟦ ⟧"
    admin.output.data(f"The model learns what is {marked}; the rest is context.")
    for number, sequences in enumerate(previews, start=1):
        for part, sequence in enumerate(sequences, start=1):
            of = f", sequence {part} of {len(sequences)}" if len(sequences) > 1 else ""
            tokens = f"{sequence.tokens} tokens, {sequence.target_tokens} learnt"
            admin.output.data(
                f"\nExample {number}{of}" + (f": {tokens}" if sequence.tokens else "")
            )
            admin.output.data(_marked(sequence, in_colour))


def _marked(sequence: Preview, in_colour: bool) -> str:
    """The text of a sequence, indented, with the learnt spans made visible."""
    pieces = []
    for span in sequence.spans:
        if not span.is_target:
            pieces.append(click.style(span.text, dim=True) if in_colour else span.text)
        else:
            green = click.style(span.text, fg="green", bold=True)
            pieces.append(green if in_colour else f"⟦{span.text}⟧")
    return "\n".join(f"  {line}" for line in "".join(pieces).rstrip("\n").split("\n"))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("preparing"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("preparing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
