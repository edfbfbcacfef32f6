"""An evaluation as a document, Markdown or HTML by what its file's name ends in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.errors import LcccError
from admin.output import local_time

if TYPE_CHECKING:
    from training.scores.evaluation import Results

Row = Sequence[str]
DATA = "(the data)"
STYLE = """\
body { font: 14px system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top }
th { background: #f4f4f4 }
"""


class ReportFailed(LcccError):
    """The report cannot be written, or has a name that says nothing of its form."""


@dataclass(frozen=True)
class Part:
    """A heading, a sentence or more, and a table whose first row is its head."""

    title: str
    text: str
    table: Sequence[Row]


def figures(results: Results) -> list[Row]:
    """The table of all models: a row a figure, a column a model, the data's own replies last."""
    from training.scores.metrics import METRICS

    head = ("", *(model.name for model in results.models), DATA)
    rows: list[Row] = [head]
    for name, metric in METRICS.items():
        values = [model.metrics.get(name) for model in results.models] + [results.data.get(name)]
        if any(value is not None for value in values):
            rows.append((metric.title, *map(_number, values)))
    return rows


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if value >= 1e6 else f"{value:.3f}"  # noqa: PLR2004 # no table is that wide


def replies(results: Results, many: int) -> list[Row]:
    """The first ``many`` answers to the data, side by side."""
    head = ("the user", *(model.name for model in results.models), DATA)
    columns = [model.answers[:many] for model in results.models]
    rows = [
        (answers[0].text, *(one.reply for one in answers), answers[0].reference)
        for answers in zip(*columns, strict=True)
    ]
    return [head, *rows]


def prompted(results: Results) -> list[Row]:
    """The answers to the fixed prompts, side by side."""
    head = ("the user", *(model.name for model in results.models))
    columns = [model.prompted for model in results.models]
    rows = [
        (answers[0].text, *(one.reply for one in answers)) for answers in zip(*columns, strict=True)
    ]
    return [head, *rows]


def parts(results: Results) -> Iterator[Part]:
    """The whole report."""
    from training.scores.metrics import METRICS

    when = local_time(results.measured)
    yield Part(
        f"{', '.join(model.name for model in results.models)} on {results.dataset}",
        f"Split {results.split}: {results.dialogues} dialogues for likelihood, the last exchange "
        f"of {results.replies} for replies. Base {results.base}. {results.conditions}. "
        f"Dataset {results.dataset_sha256[:12]}. {when}.",
        figures(results),
    )
    yield Part(
        "What the figures are",
        "White space does not count.",
        [("figure", "meaning"), *((one.title, one.meaning) for one in METRICS.values())],
    )
    yield Part(
        "System prompts",
        "Each model was asked as the server would ask it.",
        [("model", "system prompt")]
        + [(model.name, model.system_prompt or "none") for model in results.models],
    )
    yield Part("Fixed prompts", "The last turn of each is shown.", prompted(results))
    yield Part("The dataset's own questions", "", replies(results, results.replies))


def write_report(results: Results, path: Path) -> None:
    """Write the report to ``path``, which ends in .md or .html.

    Raises:
        ReportFailed: it ends in something else, or cannot be written.
    """
    check_path(path)
    form = html if path.suffix.lower() == ".html" else markdown
    try:
        path.write_text(form(list(parts(results))), encoding="utf-8")
    except OSError as error:
        raise ReportFailed(f"The report could not be written: {error}") from error


def check_path(path: Path) -> None:
    """Refuse a path before an hour of measuring goes into it.

    Raises:
        ReportFailed: it ends in neither .md nor .html, or its directory is not there.
    """
    if path.suffix.lower() not in (".md", ".html"):
        raise ReportFailed(f"{path}: a report's name ends in .md or .html.")
    if not path.parent.is_dir():
        raise ReportFailed(f"{path}: there is no directory {path.parent}; make it first.")


def markdown(document: Sequence[Part]) -> str:
    """The parts as Markdown with tables."""
    blocks = []
    for number, part in enumerate(document):
        head, *rows = part.table
        table = [_markdown_row(head), "|" + " --- |" * len(head), *map(_markdown_row, rows)]
        blocks += [f"{'##' if number else '#'} {part.title}", part.text, "\n".join(table)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _markdown_row(row: Row) -> str:
    cells = (escape(" ".join(cell.split()), quote=False).replace("|", "\\|") for cell in row)
    return f"| {' | '.join(cells)} |"


def html(document: Sequence[Part]) -> str:
    """The parts as one HTML document that needs nothing from anywhere."""
    title = escape(document[0].title)
    lines = ['<!doctype html>\n<html lang="zh">\n<meta charset="utf-8">']
    lines.append(f"<title>{title}</title>\n<style>\n{STYLE}</style>")
    for number, part in enumerate(document):
        level = "h2" if number else "h1"
        lines.append(f"<{level}>{escape(part.title)}</{level}>\n<p>{escape(part.text)}</p>")
        head, *rows = part.table
        lines.append(f"<table>\n{_html_row(head, 'th')}")
        lines += [_html_row(row, "td") for row in rows]
        lines.append("</table>")
    return "\n".join([*lines, "</html>"]) + "\n"


def _html_row(row: Row, cell: str) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(each)}</{cell}>" for each in row) + "</tr>"
