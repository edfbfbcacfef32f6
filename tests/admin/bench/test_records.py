"""``bench records``: it measures a record that real logs and readers made."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from admin.cli import main

TIMINGS = ("first_paint_ms", "first_paint_cpu_ms", "update_ms", "return_ms", "append_ms")


def bench(tmp_path: Path, *arguments: str) -> Result:
    command = ["--home", str(tmp_path), "bench", "records", "--steps", "600", "--rounds", "2"]
    return CliRunner().invoke(main, [*command, *arguments])


def test_every_figure_is_there(tmp_path: Path) -> None:
    """As JSON with the spread of each, and nothing is left behind at home."""
    result = bench(tmp_path, "--json")

    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["benchmark"], found["steps"], found["rounds"]) == ("records", 600, 2)
    assert found["log_bytes"] > 600 * 100
    for name in TIMINGS:
        assert 0 < found[name]["least"] <= found[name]["median"] <= found[name]["most"]
    assert list(tmp_path.iterdir()) == []


def test_a_person_gets_a_table(tmp_path: Path) -> None:
    """One row a figure."""
    rows = bench(tmp_path).stdout.splitlines()

    assert rows[1].split() == ["steps,", "each", "with", "an", "event", "600"]
    assert [row.partition(",")[0] for row in rows[3:]] == [
        "first paint",
        "of it on the processor",
        "update after one event",
        "finding an event by number",
        "writing an event",
    ]
