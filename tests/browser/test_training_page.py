"""The whole way in a browser, with everything real: a file, a training, an adapter, a chat."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from server.background import serve_in_thread
from server.settings import ServerSettings
from tests.browser.conftest import PHONE, Open, Workshop
from tests.fakes import ScriptedEngine
from tests.records import make_run, measure
from tests.training.conftest import DIALOGUES
from tests.waiting import eventually
from training.runs import EventLog, Run, RunStore

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import Browser, Page, Route, expect

STEPS = 120
QUICK = {
    "training.max_steps": str(STEPS),
    "training.batch_size": "2",
    "training.learning_rate": "0.01",
    "record.log_every": "1",
    "record.evaluate_every": "40",
    "generation.max_tokens": "12",
}
PATIENCE_MS = 120_000  # several processes load torch, maybe beside other tests


def upload(page: Page, path: Path, name: str) -> None:
    page.set_input_files("input[type=file]", path)
    page.fill("form.drop input[required]:not([type])", name)
    page.click("form.drop button[type=submit]")


def button(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def loss(page: Page) -> Any:
    return page.locator(".chart").first


def points(page: Page) -> int:
    """How many points the loss has, as it is told to who does not see it."""
    found = re.search(r"：(\d+) 个点", loss(page).get_attribute("aria-label") or "")
    return int(found[1]) if found else 0


def steps_of(run: Run) -> int:
    """How many steps the training has told of."""
    return sum(event.kind == "train" for event in run.events())


@contextmanager
def halted(run: Run, behind: int) -> Iterator[int]:
    """Halt the training beyond a step, however quick it is; how many it has told of."""
    assert eventually(lambda: steps_of(run) > behind, PATIENCE_MS / 1000)
    process = psutil.Process(run.status().pid)
    process.suspend()
    try:
        assert eventually(lambda: process.status() == psutil.STATUS_STOPPED)
        yield steps_of(run)
    finally:
        process.resume()


@pytest.mark.timeout(600)
def test_from_a_file_to_a_chat(workshop: Workshop, tmp_path: Path) -> None:
    """Upload, train with curves moving, reload, a second tab, stop, resume, name it, talk to it."""
    raw = tmp_path / "对话.json"
    raw.write_text(json.dumps({"train": DIALOGUES[:20], "valid": DIALOGUES[20:]}), "utf-8")
    page = workshop.open("data")
    upload(page, raw, "small")
    expect(page.locator("article.card h2")).to_have_text("small", timeout=PATIENCE_MS)

    page.click(".rail >> text=训练")
    button(page, "新训练").click()
    form = page.locator(".training-form")
    form.locator("[name=adapter]").fill("bot")
    form.locator("summary").click()
    for name, value in QUICK.items():
        form.locator(f"[name='{name}']").fill(value)
    form.locator("[name='quantization.compute_dtype']").select_option("fp32")
    expect(button(page, "开始训练")).to_be_disabled()
    button(page, "检查").click()
    expect(form.locator(".plan")).to_contain_text(f"{STEPS} 步，每步 8 段对话", timeout=PATIENCE_MS)
    button(page, "开始训练").click()

    expect(page.locator(".run-head h2")).to_contain_text("bot-", timeout=PATIENCE_MS)
    (run,) = RunStore(workshop.home.runs).all()
    with halted(run, behind=2) as before:
        assert eventually(lambda: points(page) == before)
        reached = page.locator(".run-head .progress span").inner_text()
        page.evaluate("window.shown = document.querySelector('.run-head .buttons button')")
    with halted(run, behind=before) as now:
        assert eventually(lambda: points(page) == now)
        expect(page.locator(".run-head .progress span")).not_to_have_text(reached)
        assert page.evaluate("window.shown.isConnected")  # else a step would swallow a click
        page.reload()
        other = workshop.open(page.url.partition("#/")[2])
        for tab in (page, other):
            assert eventually(lambda tab=tab: points(tab) == now)
        button(page, "停止").click()
        page.get_by_role("dialog").get_by_role("button", name="停止").click()
        for tab in (page, other):
            expect(button(tab, "正在停止……")).to_be_disabled()
    for tab in (page, other):
        expect(tab.locator(".run-head .badge")).to_have_text("已停止", timeout=PATIENCE_MS)
    stopped_at = run.status().step
    assert now <= stopped_at < STEPS
    assert eventually(lambda: points(page) == points(other) == stopped_at)

    button(page, "继续").click()
    for tab in (page, other):
        expect(tab.locator(".run-head .badge")).to_have_text("已完成", timeout=PATIENCE_MS)
        assert eventually(lambda tab=tab: points(tab) == STEPS)

    expect(other.locator(".registered a").first).to_have_text("bot")
    button(page, "以其他名字注册").click()
    page.get_by_role("dialog").get_by_label("适配器名字").fill("bot-2")
    page.get_by_role("dialog").get_by_role("button", name="注册适配器").click()
    for tab in (page, other):
        expect(tab.locator(".registered")).to_contain_text("bot-2")
    page.click("[aria-label='bot 与基座并排聊天']")
    page.fill(".composer textarea", "今天好热")
    page.keyboard.press("Enter")
    expect(page.locator(".reply .stats").nth(1)).to_contain_text("token", timeout=PATIENCE_MS)
    expect(page.locator(".reply h2")).to_have_text(["tiny", "bot"])


def test_what_the_command_line_refuses_is_said_in_the_page(
    workshop: Workshop, tmp_path: Path
) -> None:
    """A broken file, and a field that is out of bounds; nothing is started."""
    (tmp_path / "bad.json").write_text('[["a", "b"], 7]')
    page = workshop.open("data")
    upload(page, tmp_path / "bad.json", "bad")
    expect(page.locator("form.drop .error")).to_contain_text("record 2", timeout=PATIENCE_MS)

    (tmp_path / "good.json").write_text(json.dumps(DIALOGUES))
    upload(page, tmp_path / "good.json", "good")
    expect(page.locator("article.card h2")).to_have_text("good", timeout=PATIENCE_MS)
    page.click("article.card a")
    expect(page.locator("mark.learnt").nth(1)).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator(".rules tbody tr").first).to_be_visible()
    button(page, "新训练").click()
    page.fill("[name='lora.r']", "0")
    button(page, "检查").click()
    refusal = page.locator(".training-form .error")
    expect(refusal).to_contain_text("lora.r", timeout=PATIENCE_MS)
    expect(button(page, "开始训练")).to_be_disabled()
    assert not workshop.home.runs.exists()
    (logged,) = workshop.seen.errors  # by Chromium itself, of every answer that is no success
    assert "400" in logged
    workshop.seen.errors.clear()


def test_a_run_of_the_command_line_is_followed(console: Open, settings: Any) -> None:
    """What a process that the server knows nothing of writes appears; hostile text stays text."""
    run = make_run(settings.home.runs, state="running", total_steps=50)
    measure(run, steps=10)
    with run.held():
        page = console()
        page.click(".rail >> text=训练")
        expect(page.locator(".run-head .badge")).to_have_text("进行中")
        expect(loss(page)).to_have_attribute("aria-label", re.compile("10 个点，第 1 到 10 步"))

        log = EventLog(run.events_path)
        log.append("train", 11, loss=0.5, learning_rate=1e-4)
        log.append("warning", 11, message="<img src=x onerror=\"document.title='ran'\">")
        log.close()

        expect(loss(page)).to_have_attribute("aria-label", re.compile("最近的值 0.5"))
        expect(page.locator(".warning")).to_contain_text("<img src=x")
        assert "ran" not in page.title()
    expect(page.locator(".run-head .badge")).to_have_text("中断")


@pytest.mark.parametrize("is_told", [True, False])
def test_a_run_that_ends_as_one_stops_it_is_no_error(
    console: Open, settings: Any, is_told: bool
) -> None:
    """Whether the page has heard of the end before the answer to its question or not: it shows how
    the run has ended, and complains of nothing.
    """
    run = make_run(settings.home.runs, state="running", total_steps=50)
    measure(run, steps=10)
    page = console()
    badge = page.locator(".run-head .badge")
    asked: list[str] = []

    def end() -> None:
        run.write_status(msgspec.structs.replace(run.status(), state="completed", step=50))

    def late(route: Route) -> None:
        asked.append(route.request.method)
        end()
        route.continue_()

    page.route("**/stop", late)
    with run.held():
        page.click(".rail >> text=训练")
        expect(badge).to_have_text("进行中")
        button(page, "停止").click()
        if is_told:
            end()
            expect(badge).to_have_text("已完成")
        page.get_by_role("dialog").get_by_role("button", name="停止").click()
        expect(badge).to_have_text("已完成")
        expect(page.locator(".run-head .progress span")).to_have_text("第 50 步，共 50 步")
        expect(page.locator(".run-head .error")).to_have_text("")
    assert not run.is_asked_to_stop()
    assert asked == ([] if is_told else ["POST"])
    if not is_told:
        (logged,) = page.seen.errors  # by Chromium itself, of every answer that is no success
        assert "409" in logged
        page.seen.errors.clear()


def test_curves_are_zoomed_laid_over_each_other_and_smoothed(console: Open, settings: Any) -> None:
    """A hundred thousand points come in few; a part of the steps comes in its own."""
    long, short = make_run(settings.home.runs), make_run(settings.home.runs, adapter="short")
    measure(long, steps=100_000)
    measure(short, steps=100)
    page = console()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("path => { location.hash = path }", f"#/training/{long.id}")
    expect(loss(page)).to_have_attribute("aria-label", re.compile("第 1 到 100,000 步"))
    page.check(f"[aria-label='叠加显示 {short.id}']")
    expect(page.locator(".legend li .dot")).to_have_count(2)

    box = loss(page).locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 60, steps=4)
    with page.expect_response(re.compile(f"{long.id}/metrics.*first_step=")) as response:
        page.mouse.up()
    curve = response.value.json()["curves"]["loss"]
    assert 1000 < len(curve) <= 1200
    assert curve[-1][1] - curve[0][0] < 20_000
    page.check("text=对数坐标")
    page.locator("input[type=range]").fill("0")
    page.click("[aria-label='显示全部']")
    page.click("[aria-label='放大']")
    expect(loss(page).locator("canvas")).to_be_visible()


def test_a_page_goes_on_when_the_server_starts_again(
    chromium: Browser, settings: ServerSettings
) -> None:
    """It says that the server is away, and signed in anew it shows what was written meanwhile."""
    run = make_run(settings.home.runs)
    measure(run, steps=5)
    keyed = msgspec.structs.replace(settings, admin_key="ops")
    with chromium.new_context(locale="zh-CN") as profile:
        page = profile.new_page()
        with serve_in_thread(keyed, ScriptedEngine()) as first:
            page.goto(f"{first.base_url}/console#token={first.token}")
            page.wait_for_selector(".rail")
            page.evaluate("path => { location.hash = path }", f"#/training/{run.id}")
            expect(loss(page)).to_have_attribute("aria-label", re.compile("5 个点"))
        expect(page.locator(".banner")).to_contain_text("连接不上")
        measure(run, steps=3, first=6)
        port = int(first.base_url.rpartition(":")[2])
        with serve_in_thread(msgspec.structs.replace(keyed, port=port), ScriptedEngine()):
            page.fill("input[name=key]", "ops", timeout=PATIENCE_MS)
            page.keyboard.press("Enter")
            expect(loss(page)).to_have_attribute("aria-label", re.compile("8 个点，第 1 到 8 步"))
            expect(page.locator(".banner")).to_have_count(0)


def test_every_page_fits_a_phone(console: Open, settings: Any) -> None:
    """Nothing is wider than 360 pixels, in both languages."""
    run = make_run(settings.home.runs, adapter="a-rather-long-name-of-an-adapter")
    measure(run, steps=10)
    page = console(viewport={**PHONE, "width": 360})
    for names in (
        ("训练", "数据", "日志", "模型", "概览"),
        ("Training", "Data", "Log", "Models", "Overview"),
    ):
        for name in names:
            page.click(f".rail a:has-text('{name}')")
            expect(page.locator(".rail a[aria-current]")).to_contain_text(name)
            expect(page.locator("h1")).to_be_visible()
            for element in ("documentElement", "querySelector('#content')"):
                assert page.evaluate(f"document.{element}.scrollWidth <= innerWidth"), name
        if names[0] == "训练":
            page.click("text=更多")
            page.click("dialog >> text=切换到 English")
