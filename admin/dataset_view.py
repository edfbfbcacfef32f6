"""How datasets are shown on a terminal: what they hold, what cleaning did, what is learnt."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from admin.output import Output

if TYPE_CHECKING:
    from training.data.manifest import DatasetManifest
    from training.data.preview import Preview, Span
    from training.data.report import CleaningReport, Rule
    from training.data.stats import Distribution, SplitStats, TokenStats

BAR_COLUMNS = 40
HISTOGRAM_ROWS = 12


def show_list(output: Output, datasets: Mapping[str, DatasetManifest]) -> None:
    """A row for each dataset, by its name."""
    rows = [
        (
            name,
            *(f"{counts.dialogues:,}" for counts in manifest.splits.values()),
            f"{manifest.characters:,}",
            manifest.created[:16].replace("T", " "),
            manifest.sha256[:12],
        )
        for name, manifest in datasets.items()
    ]
    titles = ("name", "train", "validation", "test", "characters", "prepared (UTC)", "sha256")
    output.table(*_aligned(titles, rows, numbers=range(1, 5)))


def show_summary(output: Output, manifest: DatasetManifest, path: Path) -> None:
    """Where a dataset came from, its splits, and what cleaning did."""
    title = click.style(manifest.name, bold=True)
    output.data(f"{title}  {manifest.dialogues:,} dialogues in {path}")
    output.data(f"content sha256 {manifest.sha256}")
    for source in manifest.inputs:
        spaced = ", pre-spaced" if source.pre_spaced else ""
        given = f", as {source.given_as}" if source.given_as else ""
        output.data(f"from {source.name} ({source.size:,} bytes{spaced}{given})")
    _heading(output, f"Splits (seed {manifest.seed})" if manifest.drawn else "Splits")
    _splits(output, manifest)
    _heading(output, f"Cleaning (rules version {manifest.cleaning.version})")
    _cleaning(output, manifest.cleaning)


def show_lengths(output: Output, title: str, lengths: dict[int, int], width: int = 1) -> None:
    """A histogram; ``lengths`` says how often each occurs, in classes of ``width``."""
    _heading(output, title)
    for line in _histogram(lengths, width):
        output.data(line)


def show_rule_examples(output: Output, report: CleaningReport) -> None:
    """What each rule did to the first texts that it met."""
    _heading(output, "What the rules did, for example")
    for rule in report.rules:
        for example in rule.examples:
            after = "dropped" if example.after is None else f"→ {example.after!r}"
            output.data(f"  {rule.name:<15}  {example.before!r}  {after}")


def show_previews(
    output: Output,
    previews: Sequence[Sequence[Preview]],
    read_by: str | None,
    first: int = 1,
) -> None:
    """The sequences of each dialogue, numbered from ``first``, with what is learnt made visible."""
    in_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    _heading(output, f"Examples as {read_by} reads them" if read_by else "Examples")
    marked = click.style("in green", fg="green") if in_colour else "in ⟦ ⟧"
    output.data(f"The model learns what is {marked}; the rest is context.")
    for number, sequences in enumerate(previews, start=first):
        for part, sequence in enumerate(sequences, start=1):
            of = f", sequence {part} of {len(sequences)}" if len(sequences) > 1 else ""
            tokens = f": {sequence.tokens} tokens, {sequence.target_tokens} learnt"
            output.data(f"\nExample {number}{of}" + (tokens if sequence.tokens else ""))
            output.data(_marked(sequence, in_colour))


def show_stats(output: Output, splits: dict[str, SplitStats], tokens: TokenStats | None) -> None:
    """Splits and, where there is a base, tokens in numbers."""
    _heading(output, "Splits")
    rows = [
        (
            name,
            f"{split.dialogues:,}",
            f"{split.with_roles:,}",
            f"{split.repeated:,}",
            f"{split.leaked:,}",
        )
        for name, split in splits.items()
    ]
    titles = ("split", "dialogues", "with roles", "repeated", "leaked")
    output.table(*_aligned(titles, rows, numbers=range(1, 5)))
    _heading(output, "Lengths")
    measured = [
        (f"{name}: {what}", distribution)
        for name, split in splits.items()
        if split.dialogues
        for what, distribution in (
            ("utterances a dialogue", split.utterances),
            ("characters a dialogue", split.characters),
            ("characters an utterance", split.characters_an_utterance),
        )
    ]
    if tokens:
        measured.append(("train: tokens a sequence", tokens.sequences))
    output.table(*_aligned(("", *_COLUMNS), [_row(*each) for each in measured], range(1, 7)))
    show_lengths(output, "Characters a dialogue (train)", _sparse(splits["train"].characters))
    show_lengths(output, "Utterances a dialogue (train)", _sparse(splits["train"].utterances))
    if tokens:
        _show_tokens(output, tokens)


_COLUMNS = ("many", "mean", "p50", "p90", "p99", "greatest")


def _row(name: str, distribution: Distribution) -> tuple[str, ...]:
    return (
        name,
        f"{distribution.many:,}",
        f"{distribution.mean:.2f}",
        *(f"{value:,}" for value in distribution.percentiles.values()),
        f"{distribution.greatest:,}",
    )


def _show_tokens(output: Output, tokens: TokenStats) -> None:
    show_lengths(output, "Tokens a sequence (train)", _sparse(tokens.sequences))
    _heading(output, f"Tokens as {tokens.base} has them")
    cut = ", ".join(f"{count:,} by {name}" for name, count in tokens.cut.items()) or "none"
    output.data(f"{tokens.tokens:,} tokens, {tokens.target_share:.1%} of them learnt; cut: {cut}")
    _heading(output, "What padding would waste")
    rows = [
        (one.scheme, f"{1 - one.useful:.1%}", f"{1 / one.useful:.2f}") for one in tokens.padding
    ]
    output.table(*_aligned(("rows of", "wasted", "times the work"), rows, range(1, 3)))


def _sparse(distribution: Distribution) -> dict[int, int]:
    return {value: count for value, count in enumerate(distribution.counts) if count}


def _splits(output: Output, manifest: DatasetManifest) -> None:
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
    output.table(*_aligned(titles, rows, numbers=range(1, 5)))


def _cleaning(output: Output, report: CleaningReport) -> None:
    output.data(
        f"dialogues: read {report.read:,}, kept {report.kept:,} "
        f"({report.changed:,} of them changed), dropped {report.dropped:,}"
    )
    rows = [(rule.name, rule.description, _effects(rule)) for rule in report.rules if rule.is_on]
    output.table(("rule", "what it is about", "what it did"), rows)
    off = ", ".join(rule.name for rule in report.rules if not rule.is_on)
    if off:
        output.data(f"off: {off}")


def _effects(rule: Rule) -> str:
    effects = (
        ("changed", rule.utterances_changed, "utterance"),
        ("dropped", rule.utterances_dropped, "utterance"),
        ("dropped", rule.dialogues_dropped, "dialogue"),
    )
    done = [f"{verb} {count:,} {noun}{'s'[: count > 1]}" for verb, count, noun in effects if count]
    return ", ".join(done) or "-"


def _heading(output: Output, text: str) -> None:
    output.data("\n" + click.style(text, bold=True))


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


def _histogram(lengths: dict[int, int], least: int) -> Iterator[str]:
    """A bar a class of lengths; the longest hundredth shares the last one."""
    total, covered, bound = sum(lengths.values()), 0, 0
    for bound, count in lengths.items():  # noqa: B007 - wanted after the loop
        covered += count
        if covered >= 0.99 * total:
            break
    width = next(w for w in _round_numbers() if w >= least and bound < w * HISTOGRAM_ROWS)
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
    scale = 1
    while True:
        yield from (scale, 2 * scale, 5 * scale)
        scale *= 10


def _bar(share: float) -> str:
    """A bar of at most :data:`BAR_COLUMNS`, exact to an eighth of a character."""
    eighths = round(share * BAR_COLUMNS * 8)
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]


def _marked(sequence: Preview, in_colour: bool) -> str:
    """The text of a sequence, indented, with the learnt spans made visible."""
    text = "".join(_styled(span, in_colour) for span in sequence.spans)
    return "\n".join(f"  {line}" for line in text.rstrip("\n").split("\n"))


def _styled(span: Span, in_colour: bool) -> str:
    """A span's text; a token by itself ends in a thin line."""
    border = "" if span.ids is None else "│"
    if in_colour:
        style = {"fg": "green", "bold": True} if span.is_target else {"dim": True}
        return click.style(span.text, **style) + click.style(border, dim=True)
    return f"⟦{span.text}⟧{border}" if span.is_target else span.text + border
