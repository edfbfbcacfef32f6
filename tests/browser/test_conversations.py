"""Conversations: kept, found again, called something else, exported; and replies that go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.browser.conftest import Open
from tests.browser.test_chat_page import say
from tests.fakes import Script

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import expect


def test_several_conversations_are_kept(console: Open) -> None:
    """A new one leaves the other as it was; one goes only after a question."""
    page = console(Script(pieces=("一",)), Script(pieces=("二",)))
    say(page, "第一个")
    expect(page.locator(".reply .stats")).to_contain_text("token")
    page.click("text=新对话")
    say(page, "第二个")
    expect(page.locator(".reply .text")).to_have_text("二")
    page.locator(".conversations .plain", has_text="第一个").click()
    expect(page.locator(".reply .text")).to_have_text("一")

    page.click("[aria-label='删除: 第一个']")
    page.get_by_role("dialog").get_by_role("button", name="取消").click()
    expect(page.locator(".conversations .plain")).to_have_count(2)
    page.click("[aria-label='删除: 第一个']")
    page.get_by_role("dialog").get_by_role("button", name="删除").click()
    expect(page.locator(".conversations .plain")).to_have_text(["第二个"])
    expect(page.locator(".reply .text")).to_have_text("二")


def test_a_conversation_removed_during_its_reply_stays_removed(console: Open) -> None:
    """It is kept from its question on; the end of the reply does not bring it back."""
    page = console(Script(pieces=("一", "二"), hold_at=1))
    say(page, "删除我")
    expect(page.locator(".reply .text")).to_have_text("一")
    page.click("[aria-label='删除: 删除我']")
    page.get_by_role("dialog").get_by_role("button", name="删除").click()

    expect(page.locator("[aria-label='发送']")).to_be_visible()
    expect(page.locator(".conversations .empty")).to_be_visible()
    page.reload()
    expect(page.locator(".conversations .empty")).to_be_visible()


def test_a_conversation_is_exported(console: Open, tmp_path: Path) -> None:
    """As JSON with OpenAI's messages."""
    page = console(Script(pieces=("好",)))
    say(page, "你好")
    expect(page.locator(".reply .stats")).to_contain_text("token")

    with page.expect_download() as saved:
        page.click("[aria-label='导出为 JSON']")

    assert saved.value.suggested_filename == "你好.json"
    saved.value.save_as(tmp_path / "saved.json")
    exported = json.loads((tmp_path / "saved.json").read_text(encoding="utf-8"))
    assert [each["content"] for each in exported["messages"]] == ["你好", "好"]
    assert exported["title"] == "你好"


def test_conversations_are_found_by_what_was_said(console: Open) -> None:
    """By either side, in capitals or not; there is nothing to search in while they are few."""
    page = console()
    search = page.locator(".side input[type='search']")
    expect(search).to_be_hidden()
    page.evaluate("""() => {
      for (let number = 0; number < 20; number += 1) {
        const id = String(number).padStart(32, "0");
        const replies = [{ model: "cat", content: `Answer ${number}.` }];
        const turns = [{ role: "user", content: `问 ${number}？` }, { role: "assistant", replies }];
        const about = { id, title: `第 ${number} 个`, created: 1, updated: number };
        const kept = JSON.stringify({ ...about, models: ["cat"], system: "", sampling: {}, turns });
        localStorage.setItem(`lccc.conversation.${id}`, kept);
      }
    }""")
    page.reload()
    titles = page.locator(".conversations li .plain")
    expect(titles).to_have_count(20)

    for said, found in (("answer 7", ["第 7 个"]), ("问 13", ["第 13 个"]), ("第 2 ", ["第 2 个"])):
        search.fill(said)
        expect(titles).to_have_text(found)
    search.fill("nowhere")
    expect(page.locator(".conversations")).to_have_text("没有找到")
    search.fill("")
    expect(titles).to_have_count(20)


def test_a_conversation_is_called_something_else(console: Open, tmp_path: Path) -> None:
    """By its button or F2; kept over a reload and exported. Escape leaves it as it was."""
    page = console(Script(pieces=("一",)), Script(pieces=("二",)))
    for text in ("旧的", "新的"):
        page.click("text=新对话")
        say(page, text)
        expect(page.locator(".reply .stats")).to_contain_text("token")
    titles = page.locator(".conversations .plain")
    expect(titles).to_have_text(["新的", "旧的"])

    titles.nth(1).focus()
    page.keyboard.press("F2")
    field = page.get_by_role("textbox", name="重命名")
    expect(field).to_be_focused()
    expect(field).to_have_value("旧的")
    field.fill("不要")
    page.keyboard.press("Escape")
    expect(titles).to_have_text(["新的", "旧的"])
    expect(titles.nth(1)).to_be_focused()

    page.locator(".conversations li", has_text="旧的").hover()
    page.click("[aria-label='重命名: 旧的']")
    field.fill("  猫的\t对话 ")
    page.keyboard.press("Enter")
    expect(titles).to_have_text(["新的", "猫的 对话"])  # in its place: nothing was said in it

    page.reload()
    expect(titles).to_have_text(["新的", "猫的 对话"])
    titles.nth(1).click()
    say(page, "再说")
    expect(titles).to_have_text(["猫的 对话", "新的"])
    with page.expect_download() as saved:
        page.click("[aria-label='导出为 JSON']")
    assert saved.value.suggested_filename == "猫的-对话.json"
    saved.value.save_as(tmp_path / "saved.json")
    assert json.loads((tmp_path / "saved.json").read_text("utf-8"))["title"] == "猫的 对话"


def test_a_reply_is_written_on_while_another_page_is_looked_at(console: Open) -> None:
    """And while another conversation is; on coming back it is there, and its end, and kept."""
    page = console(Script(pieces=("开头", "，后来"), hold_at=1))
    say(page, "说")
    expect(page.locator(".reply .text")).to_have_text("开头")
    page.click(".rail >> text=模型")
    expect(page.locator("h1")).to_have_text("模型")
    page.click("[aria-label^='外观']")  # shows everything anew
    page.click(".rail >> text=聊天")
    expect(page.locator(".reply .text")).to_have_text("开头")
    expect(page.locator("[aria-label='停止']")).to_be_visible()
    page.click("text=新对话")
    expect(page.locator(".reply")).to_have_count(0)
    expect(page.locator("[aria-label='发送']")).to_be_visible()
    assert not page.live.engine.aborted

    page.live.engine.release()
    page.locator(".conversations .plain", has_text="说").click()
    expect(page.locator(".reply .text")).to_have_text("开头，后来")
    expect(page.locator(".reply .stats")).to_contain_text("token")
    page.reload()
    expect(page.locator(".reply .text")).to_have_text("开头，后来")


def test_what_has_come_of_a_reply_is_kept_when_the_browser_leaves(console: Open) -> None:
    """In the middle of it: on a reload, and where a phone puts the browser away for good."""
    page = console(Script(pieces=("开头", "后来"), hold_at=1))
    say(page, "说")
    expect(page.locator(".reply .text")).to_have_text("开头")

    page.evaluate("dispatchEvent(new Event('pagehide'))")
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator(".reply .text")).to_have_text("开头")
    expect(other.locator(".reply .stats")).to_have_text("没有写完")
    other.close()
    page.reload()
    expect(page.locator(".reply .text")).to_contain_text("开头")
    expect(page.get_by_role("button", name="重新生成", exact=True)).to_be_visible()
