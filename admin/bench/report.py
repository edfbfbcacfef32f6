"""Figures for people and for programs: one table, or one JSON object."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from admin.bench.errors import BenchFailed
from admin.bench.statistics import (
    Distribution,
    Figure,
    Spread,
    Summary,
    median_itl,
    median_ttft,
    output_rate,
    ratio,
    summarise,
)
from admin.bench.timeline import Round
from admin.output import Output

NONE = "–"
RATIOS: dict[str, Figure] = {
    "output_tokens_per_s": output_rate,
    "ttft_ms": median_ttft,
    "itl_ms": median_itl,
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that one benchmark found.

    ``asked``: the options it was run with. ``sides``: figures by the side's name, in the order in
    which they took turns. ``ratios``: the first side's figures (throughput, p50 of latencies) as
    multiples of the second's, by the summary's field. ``parts_s``: seconds that steps of the
    engine took, by part, of each side that ran in this process; ``shares``: of the whole step.
    ``copied_share``: how much of the replies their own text foretells, where that was looked at.
    """

    benchmark: str
    machine: dict[str, Any]
    asked: dict[str, Any]
    sides: dict[str, Summary]
    each_round: dict[str, list[Summary]]
    ratios: dict[str, Spread]
    parts_s: dict[str, dict[str, float]]
    shares: dict[str, dict[str, float]]
    copied_share: float | None = None


def report_of(
    benchmark: str, asked: Mapping[str, Any], tokens: int, played: Mapping[str, list[Round]]
) -> Report:
    """The figures of ``played``, whose sides took turns, with replies of ``tokens`` tokens."""
    parts_s = {name: parts for name, rounds in played.items() if (parts := added(rounds))}
    ours, *others = played.values()
    found = {name: ratio(ours, others[0], figure) for name, figure in RATIOS.items() if others}
    return Report(
        benchmark=benchmark,
        machine=machine(),
        asked=dict(asked),
        sides={name: summarise(rounds, tokens) for name, rounds in played.items()},
        each_round={
            name: [summarise([one], tokens) for one in rounds] for name, rounds in played.items()
        },
        ratios={name: each for name, each in found.items() if each is not None},
        parts_s=parts_s,
        shares={name: shares_of(parts) for name, parts in parts_s.items()},
    )


def shares_of(parts: Mapping[str, float]) -> dict[str, float]:
    """Each part's share of all of them together."""
    total = sum(parts.values())
    return {name: seconds / total for name, seconds in parts.items()} if total else {}


def added(rounds: Sequence[Round]) -> dict[str, float]:
    """Seconds by part of all ``rounds`` together."""
    total: dict[str, float] = {}
    for one in rounds:
        for name, seconds in one.parts.items():
            total[name] = total.get(name, 0.0) + seconds
    return total


def machine() -> dict[str, Any]:
    """Where this was measured; ``load_average`` is that of the last minute, the benchmark's too."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


class Tabular(Protocol):
    """A report whose figures fit a table."""

    @property
    def columns(self) -> Sequence[str]: ...

    def rows(self) -> Sequence[Sequence[str]]: ...


def show_table(output: Output, report: Tabular, *, as_json: bool) -> None:
    """Print ``report``, in one of the two forms."""
    if as_json:
        output.json(report)
    else:
        output.table(report.columns, report.rows())


def show(output: Output, report: Report, *, as_json: bool) -> None:
    """Print ``report``; as JSON, with every round's figures.

    Raises:
        BenchFailed: some requests failed; what was measured has been printed.
    """
    if as_json:
        output.json(report)
    else:
        output.table(["", *report.sides, *_ratio_title(report)], _rows(report))
        _show_parts(output, report)
        if report.copied_share is not None:
            output.data(f"Of these replies, {report.copied_share:.0%} is as it was said before.")
    for name, summary in report.sides.items():
        _remark(output, name, summary)
    if broken := [_failures(name, each) for name, each in report.sides.items() if each.failed]:
        raise BenchFailed("\n".join(broken))


def _ratio_title(report: Report) -> list[str]:
    return [" / ".join(report.sides)] if len(report.sides) > 1 else []


def _rows(report: Report) -> list[list[str]]:
    sides = list(report.sides.values())
    rows = [
        ["requests (failed)", *(f"{each.requests} ({each.failed})" for each in sides)],
        ["output tokens/s", *(f"{each.output_tokens_per_s:.1f}" for each in sides)],
        ["total tokens/s", *(f"{each.total_tokens_per_s:.1f}" for each in sides)],
        ["requests/s", *(f"{each.requests_per_s:.2f}" for each in sides)],
        ["prompt tokens a request", *(_a_request(each, each.prompt_tokens) for each in sides)],
        ["of them cached", *(_a_request(each, each.cached_tokens) for each in sides)],
        ["output tokens a request", *(_a_request(each, each.output_tokens) for each in sides)],
    ]
    for title, field in (("TTFT", "ttft_ms"), ("ITL", "itl_ms"), ("TPOT", "tpot_ms")):
        rows.append([f"{title} p50 / p90 / p99, ms", *(_cell(getattr(s, field)) for s in sides)])
    rows.append(["latency p50 / p90 / p99, ms", *(_cell(each.e2e_ms) for each in sides)])
    if len(sides) > 1:
        named = dict(zip((1, 7, 8), RATIOS, strict=True))
        for index, row in enumerate(rows):
            found = report.ratios.get(named.get(index, ""))
            row.append(found.shown(3) if found else "")
    return rows


def _a_request(summary: Summary, tokens: int) -> str:
    done = summary.requests - summary.failed
    return f"{tokens / done:.1f}" if done else NONE


def _cell(values: Distribution | None) -> str:
    if values is None:
        return NONE
    return f"{values.p50:.1f} / {values.p90:.1f} / {values.p99:.1f}"


def _show_parts(output: Output, report: Report) -> None:
    """The shares of a step's parts, largest first, where the engine measures them."""
    if not report.parts_s:
        return
    names = sorted(
        {name for parts in report.parts_s.values() for name in parts},
        key=lambda name: -max(parts.get(name, 0.0) for parts in report.parts_s.values()),
    )
    rows = [[name, *(_part(report, side, name) for side in report.parts_s)] for name in names]
    output.table(["of the engine's steps", *report.parts_s], rows)


def _part(report: Report, side: str, name: str) -> str:
    share = report.shares[side].get(name)
    return NONE if share is None else f"{report.parts_s[side][name]:.2f} s, {share:.1%}"


def _remark(output: Output, name: str, summary: Summary) -> None:
    """What a reader of the figures should know."""
    if summary.short:
        output.warn(f"{name}: {summary.short} replies are shorter than asked for.")
    if summary.counted.get("tokenizer"):
        output.warn(f"{name} sent no usage: its tokens were counted with the tokenizer.")
    if summary.counted.get("chunks"):
        output.warn(f"{name} sent no usage: each chunk of text was taken for one token.")


def _failures(name: str, summary: Summary) -> str:
    reasons = "; ".join(f"{count}× {reason}" for reason, count in summary.failures.items())
    return f"{name}: {summary.failed} of {summary.requests} requests failed: {reasons}"
