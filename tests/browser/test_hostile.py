"""Text from elsewhere stays text, wherever the console shows it; and a keyboard is enough."""

from __future__ import annotations

import json
import logging
from typing import Any

import msgspec
import pytest

from server.console.jobs import Jobs
from server.settings import ServerSettings
from tests.browser.conftest import Open
from tests.fakes import Script, card
from tests.records import make_run, make_sweep, measure
from training.runs import EventLog
from training.runs.event import Sample
from training.sweeps.record import Outcome, TrialRecord
from training.sweeps.store import SweepStore

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import Page, expect

# What a browser must neither run nor fetch; also as the text of attributes and of links.
HOSTILE = (
    "<img src=x onerror=\"document.title='ran'\">"
    "<script>document.title='ran'</script><svg/onload=document.title='ran'>"
    "<iframe src=https://attacker.example></iframe>"
    "\"'><b onmouseover=document.title='ran'>"
    "[x](javascript:document.title='ran')![](https://attacker.example/?q=1)"
)
FOREIGN = "img, script:not([src^='/console']):not([src*='/console/']), iframe, [onload], [onerror]"


def check(page: Page, path: str, shown: str = HOSTILE[:20]) -> None:
    """Go there, and see the text as text."""
    page.evaluate("path => { location.hash = path }", f"#/{path}")
    expect(page.locator("#content")).to_contain_text(shown)
    assert page.locator("#content").locator(FOREIGN).count() == 0, path
    assert "ran" not in page.title(), path


def test_no_text_from_elsewhere_becomes_markup(console: Open, settings: ServerSettings) -> None:
    """Names of models, runs and data, prompts, reasons, warnings, samples, log lines, errors."""
    home = settings.home
    names: dict[str, Any] = {"adapter": HOSTILE, "base": HOSTILE, "dataset": HOSTILE}
    run = make_run(home.runs, state="failed", error=HOSTILE, **names | {"adapter": "bot"})
    measure(run, steps=3)
    log = EventLog(run.events_path)
    log.append("warning", 3, message=HOSTILE)
    log.append("samples", 3, replies=(Sample(HOSTILE, HOSTILE, HOSTILE),))
    log.close()
    run.log_path.write_text(f"{HOSTILE}\n", "utf-8")
    sweep = make_sweep(home, dataset=HOSTILE)
    broke = Outcome("failed", HOSTILE, 1, 3, None, None, 1.0, HOSTILE)
    odd = TrialRecord(HOSTILE, {HOSTILE: HOSTILE, "lora.r": [HOSTILE, {HOSTILE: 1}]}, broke)
    SweepStore(home.sweeps).write(msgspec.structs.replace(sweep, trials=(odd, *sweep.trials)))
    job = Jobs(home).start("prepare", HOSTILE, ["data", "show", HOSTILE])
    broken = home.datasets / "broken"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text(json.dumps({"format": HOSTILE}), "utf-8")
    page = console(Script(pieces=(HOSTILE,)))
    page.live.engine.cards.append(
        card(
            HOSTILE,
            "pocket",
            digest="digest-poet",  # which is in memory
            state="broken",
            reason=HOSTILE,
            system_prompt=HOSTILE,
        )
    )
    logging.getLogger("server").warning("%s", HOSTILE)

    check(page, "models")
    expect(page.locator("article.card h2", has_text="onerror")).to_have_text(HOSTILE)
    check(page, f"training/{run.id}")
    expect(page.locator(".warning")).to_contain_text(HOSTILE)
    check(page, "training/sweep:rank")
    expect(page.locator(".trials")).to_contain_text(HOSTILE)
    expect(page.locator(".run-view .error").last).to_contain_text(HOSTILE)
    check(page, "data", "broken")
    expect(page.locator(".job .error").first).to_contain_text(HOSTILE[:20])
    check(page, "logs")
    check(page, f"logs/job:{job.id}")
    check(page, f"logs/run:{run.id}")
    check(page, "overview")
    page.evaluate("path => { location.hash = path }", "#/chat")
    page.fill(".composer textarea", HOSTILE)
    page.keyboard.press("Enter")
    expect(page.locator(".reply .stats")).to_contain_text("token")
    check(page, "chat")
