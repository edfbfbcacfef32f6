"""Sweeps on the training page: a table that moves, started and stopped from there."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from server.console.jobs import Jobs
from server.settings import ServerSettings
from tests.browser.conftest import PHONE, Open
from tests.browser.test_accessibility import AXE, barriers
from tests.records import make_run, make_sweep
from tests.waiting import eventually
from training.sweeps.lock import conducting
from training.sweeps.record import Outcome
from training.sweeps.store import SweepStore

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import Page, Route, expect


def is_wider(page: Page) -> bool:
    """Whether the page has to be moved sideways."""
    places = "[document.documentElement, document.querySelector('#content')]"
    return bool(page.evaluate(f"{places}.some(({{ scrollWidth: a, clientWidth: b }}) => a > b)"))


def test_a_sweep_is_followed_and_stopped(console: Open, settings: ServerSettings) -> None:
    """One that the command line began is there at once, on a phone too; its trials move, the best
    one is marked and leads to its run, and it is asked to stop.
    """
    page = console(viewport=PHONE)
    page.click(".rail >> text=训练")
    expect(page.locator(".runs-card")).to_contain_text("还没有")
    store = SweepStore(settings.home.sweeps)
    record = make_sweep(settings.home)
    with conducting(store.directory("rank")):
        page.get_by_role("link", name="rank", exact=True).click()
        head = page.locator(".run-head")
        expect(head.locator(".badge")).to_have_text("进行中")
        expect(head.get_by_role("progressbar")).to_have_attribute(
            "aria-valuetext", "1 / 3 次训练已结束"
        )
        rows = page.locator(".trials tbody tr")
        expect(rows).to_have_count(3)
        expect(page.locator(".trials thead th").nth(1)).to_have_text("lora.r")
        expect(rows.nth(0)).to_contain_text("最好")
        expect(rows.nth(0).locator("strong")).to_have_text("2.5000")

        page.evaluate("window.shown = document.querySelector('.run-head .buttons button')")
        region = page.get_by_role("region", name="各次训练")
        region.evaluate("region => { region.scrollLeft = 60; region.focus(); }")
        failed = Outcome("failed", "gone", 7, 300, None, None, 3.0, "<b>not finite</b>")
        better = Outcome("completed", "gone-too", 300, 300, 2.25, 200, 59.0)
        record = record.with_outcome(record.trials[1], failed)
        store.write(record.with_outcome(record.trials[2], better))

        expect(rows.nth(0).locator("strong")).to_have_text("2.2500")
        expect(head.locator(".progress span")).to_have_text("3 / 3 次训练已结束")
        assert page.evaluate("window.shown.isConnected")  # else a trial would swallow a click
        expect(rows.nth(0).locator("td").first).to_have_text("16")
        expect(region).to_be_focused()  # who reads it is left where they are
        assert region.evaluate("region => region.scrollLeft") == 60
        expect(rows.nth(0).locator("a")).to_have_count(0)  # its run was deleted
        expect(page.locator(".run-view .error").last).to_contain_text("<b>not finite</b>")
        assert not is_wider(page)
        if AXE.is_file():
            assert barriers(page) == []
        page.get_by_role("button", name="停止扫描").click()
        page.get_by_role("dialog").get_by_role("button", name="停止扫描").click()
        expect(page.get_by_role("button", name="正在停止")).to_be_disabled()
        assert store.is_asked_to_stop("rank")
    expect(head.locator(".badge")).to_have_text("已完成")
    rows.nth(1).locator("a").click()
    expect(page.locator(".run-head h2")).to_contain_text(f"rank-{record.trials[0].id}")


@pytest.mark.parametrize("is_told", [True, False])
def test_a_sweep_that_ends_as_one_stops_it_is_no_error(
    console: Open, settings: ServerSettings, is_told: bool
) -> None:
    """As of a run: whether the page has heard of the end already or not."""
    store = SweepStore(settings.home.sweeps)
    make_sweep(settings.home)
    page = console()
    badge = page.locator(".run-head .badge")
    asked: list[str] = []
    with ExitStack() as conductor:
        conductor.enter_context(conducting(store.directory("rank")))

        def late(route: Route) -> None:
            asked.append(route.request.method)
            conductor.close()
            route.continue_()

        page.route("**/stop", late)
        page.click(".rail >> text=训练")
        page.get_by_role("link", name="rank", exact=True).click()
        expect(badge).to_have_text("进行中")
        page.get_by_role("button", name="停止扫描").click()
        if is_told:
            conductor.close()
            expect(badge).to_have_text("已停止")
        page.get_by_role("dialog").get_by_role("button", name="停止扫描").click()
        expect(badge).to_have_text("已停止")
        expect(page.locator(".run-head .error")).to_have_text("")
    assert not store.is_asked_to_stop("rank")
    assert asked == ([] if is_told else ["POST"])
    if not is_told:
        (logged,) = page.seen.errors  # by Chromium itself, of every answer that is no success
        assert "409" in logged
        page.seen.errors.clear()


def test_a_sweep_is_started_from_the_page(
    console: Open, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong in the file is said before the start; then it runs as a job, and goes on with
    what is kept of it.
    """
    begin = Jobs.start
    started: list[Any] = []
    run = make_run(settings.home.runs, state="running")

    def slowly(jobs: Jobs, kind: Any, subject: str, arguments: Any) -> Any:
        """A process that runs until it is told to end, in place of the one asked for."""
        started.append((kind, subject))
        return begin(jobs, kind, subject, ["runs", "watch", run.id])

    async def planned(*_: Any, **__: Any) -> Any:
        one = {"name": "rank-1", "state": "pending", "values": {"lora.r": 4}}
        return {
            "name": "rank",
            "dataset": "small",
            "base": "pocket",
            "search": "grid",
            "duplicates": 0,
            "to_run": 1,
            "steps": 300,
            "seconds": 61.0,
            "disk": 1_000_000,
            "trials": [one | {"steps": 300, "seconds": 61.0, "disk": 1_000_000}],
        }

    monkeypatch.setattr(Jobs, "start", slowly)
    monkeypatch.setattr("server.console.sweeps.command", planned)
    with run.held():
        page = console(color_scheme="dark")
        page.click(".rail >> text=训练")
        page.get_by_role("button", name="新扫描").click()
        form = page.get_by_role("dialog")
        text = form.locator("textarea")
        text.fill('name = "rank"\ndata = "small"\nbase = "pocket"\n[fields]\n"lora.r" = [0]\n')
        form.get_by_role("button", name="检查").click()
        expect(form.locator(".error")).to_have_text(
            'sweep.toml: fields."lora.r"[0]: Expected `int` >= 1.'
        )
        expect(form.get_by_role("button", name="开始扫描")).to_be_disabled()
        (logged,) = page.seen.errors  # by Chromium itself, of every answer that is no success
        assert "400" in logged
        page.seen.errors.clear()
        content = b'name = "rank"\ndata = "small"\nbase = "pocket"\n[fields]\n"lora.r" = [4]\n'
        file = {"name": "rank.toml", "mimeType": "text/plain", "buffer": content}
        form.locator("input[type=file]").set_input_files([file])  # type: ignore[list-item] # typed
        expect(text).to_have_value(content.decode())
        form.get_by_role("button", name="检查").click()
        expect(form.locator(".plan")).to_contain_text("共 1 次，其中 1 次要运行")
        if AXE.is_file():
            assert barriers(page) == []
        form.get_by_role("button", name="开始扫描").click()
        expect(page.locator(".job strong")).to_have_text("参数扫描 · rank")
        assert eventually(lambda: started == [("sweep", "rank")])
        make_sweep(settings.home)
        with conducting(SweepStore(settings.home.sweeps).directory("rank")):
            expect(form).to_have_count(0)
            expect(page.locator(".run-head h2")).to_have_text("rank")
            expect(page.locator(".jobs .job")).to_have_count(0)  # it tells of itself now
            expect(page.get_by_role("link", name="日志", exact=True).last).to_be_visible()
        page.get_by_role("button", name="继续扫描").click()
        assert eventually(lambda: len(Jobs(settings.home).all()) == 2)
        for job in Jobs(settings.home).all():
            job.cancel()
        expect(page.locator(".jobs .job")).to_have_count(0)
