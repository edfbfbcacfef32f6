"""The pages that show what the server has and does."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.browser.conftest import Open
from tests.fakes import Script, card

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import expect


def test_the_models_are_listed_with_their_state(console: Open) -> None:
    """A broken one says why; one that comes while the page is open appears."""
    page = console()
    page.click(".rail >> text=模型")
    expect(page.locator("article.card")).to_have_count(3)
    expect(page.locator("article.card").nth(1)).to_contain_text("pocket 的适配器")

    page.live.engine.cards.append(
        card("broken", "pocket", state="broken", reason="made for another base")
    )

    expect(page.locator("article.card")).to_have_count(4)
    expect(page.locator("article.card").nth(3)).to_contain_text("made for another base")


def test_who_signs_in_by_the_form_gets_to_every_page(console: Open) -> None:
    """Opened by its bare address, without a session: after the form the links lead somewhere."""
    page = console()
    page.context.clear_cookies()
    page.goto("about:blank")
    page.goto(f"{page.live.serving.base_url}/console")
    page.fill("[name=key]", page.live.serving.token)
    (logged,) = page.seen.errors  # by Chromium itself, of every answer that is no success
    assert "401" in logged
    page.seen.errors.clear()
    page.click("button.primary")

    page.click(".rail >> text=模型")

    expect(page.locator("article.card")).to_have_count(3)


def test_the_overview_counts_each_model(console: Open) -> None:
    """Requests and tokens of the model that was asked, of /metrics."""
    page = console(Script(pieces=("一", "二", "三")))
    page.fill(".composer textarea", "你好")
    page.keyboard.press("Enter")
    expect(page.locator(".reply .stats")).to_contain_text("token")

    page.click(".rail >> text=概览")

    row = page.locator("tbody tr", has=page.locator("th", has_text="cat"))
    expect(row.locator("td").nth(0)).to_have_text("1")
    expect(row.locator("td").nth(4)).to_have_text("3")
    expect(row.locator("td").nth(7)).to_have_text("否")  # as it is not in memory
    expect(page.locator(".tile")).to_have_count(8)
    expect(page.locator(".tile.device")).to_contain_text("a scripted processor")


def test_the_servers_log_is_filtered_paused_and_saved(console: Open, tmp_path: Path) -> None:
    """By text and by level; what comes during the pause is there after it."""
    page = console()
    logger = logging.getLogger("server.test")
    logger.warning("the first warning")
    logger.error("the first error")
    page.click(".rail >> text=日志")
    lines = page.locator(".log-lines .line")
    expect(lines.filter(has_text="the first")).to_have_count(2)

    page.fill("input[type=search]", "FIRST")
    page.uncheck("text=警告")
    expect(lines).to_have_count(1)
    expect(lines).to_contain_text("the first error")
    page.fill("input[type=search]", "")
    page.check("text=警告")
    page.click("button[aria-label='暂停']")
    logger.warning("while it was paused")
    page.click("button[aria-label='继续（1 行等待）']")
    expect(lines.filter(has_text="while it was paused")).to_have_count(1)

    with page.expect_download() as saved:
        page.click("button[aria-label='下载']")
    saved.value.save_as(tmp_path / "log.txt")
    assert "ERROR server.test: the first error" in (tmp_path / "log.txt").read_text("utf-8")


def test_a_page_that_the_server_does_not_give_is_shown_once_it_does(console: Open) -> None:
    """Without a reload. Once they are fetched, pages are there while the server is not."""
    page = console()
    page.route("**/js/logs.js", lambda route: route.abort())
    page.reload()
    page.click(".rail >> text=日志")
    expect(page.locator("[role=alert]")).to_contain_text("服务器没有给出这个页面")

    page.unroute("**/js/logs.js")

    expect(page.locator(".log-lines")).to_be_visible()
    assert all("net::ERR" in error for error in page.seen.errors)
    page.seen.errors.clear()


def test_who_is_signed_out_meanwhile_is_told_why(console: Open) -> None:
    """As by a server that was started again; what was typed is still there afterwards."""
    page = console()
    page.fill(".composer textarea", "写到一半")
    page.context.clear_cookies()
    page.click(".rail >> text=模型")
    expect(page.locator(".sign-in")).to_contain_text("登录已经结束")

    page.fill("[name=key]", page.live.serving.token)
    page.click("button.primary")
    page.click(".rail >> text=聊天")
    expect(page.locator(".composer textarea")).to_have_value("写到一半")
    # By Chromium itself, of every answer that is no success: to requests, and to the WebSocket.
    assert all("401" in each or "403" in each for each in page.seen.errors)
    page.seen.errors.clear()
