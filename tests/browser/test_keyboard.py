"""What keys do on the chat page; and what they leave to an input method."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Open
from tests.browser.test_chat_page import say
from tests.fakes import Script

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import Page, expect


def compose(page: Page, text: str) -> None:
    """What an input method shows while its letters are not yet taken."""
    wire = page.context.new_cdp_session(page)
    place = {"selectionStart": len(text), "selectionEnd": len(text)}
    wire.send("Input.imeSetComposition", {"text": text, **place})
    wire.detach()


def test_enter_that_ends_a_composition_sends_nothing(console: Open) -> None:
    """Pinyin is taken by Enter; only the next Enter sends. Escape leaves a reply alone, too."""
    page = console(Script(pieces=("好", "！"), hold_at=1))
    page.evaluate("""() => {
      window.seen = [];
      const note = ({ key, isComposing }) => window.seen.push([key, isComposing]);
      addEventListener("keydown", note, true);
    }""")
    page.focus(".composer textarea")
    compose(page, "nihao")
    page.keyboard.press("Enter")
    assert page.evaluate("window.seen.at(-1)") == ["Enter", True]
    expect(page.locator(".turn")).to_have_count(0)
    page.keyboard.insert_text("你好")
    assert page.input_value(".composer textarea").startswith("你好")
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_contain_text("你好")

    expect(page.locator(".reply .text")).to_have_text("好")
    compose(page, "xie")
    page.keyboard.press("Escape")
    assert page.evaluate("window.seen.at(-1)") == ["Escape", True]
    expect(page.locator("[aria-label='停止']")).to_be_visible()
    assert not page.live.engine.aborted


def test_enter_sends_and_with_shift_breaks_the_line(console: Open) -> None:
    """While a reply is written Enter leaves it, and what is typed; Escape ends the reply."""
    page = console(Script(pieces=("开头", "后来"), hold_at=1), Script(pieces=("二",)))
    page.focus(".composer textarea")
    page.keyboard.type("第一行")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("第二行")
    page.keyboard.press("Enter")
    expect(page.locator(".reply .text")).to_have_text("开头")
    assert page.live.engine.prompts[-1][-1]["content"] == "第一行\n第二行"

    page.keyboard.type("下一句")
    page.keyboard.press("Enter")
    expect(page.locator(".composer textarea")).to_have_value("下一句")
    expect(page.locator("[aria-label='停止']")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".reply .stats")).to_have_text("已停止")
    page.keyboard.press("Enter")
    expect(page.locator(".reply .text").nth(1)).to_have_text("二")


def test_an_arrow_up_changes_the_last_message(console: Open) -> None:
    """In an empty composer; Escape leaves it as it was, Enter asks it anew."""
    page = console(*(Script(pieces=(each,)) for each in "一二"))
    say(page, "旧的")
    expect(page.locator(".reply .stats")).to_contain_text("token")
    composer = page.locator(".composer textarea")
    composer.fill("有字")
    page.keyboard.press("ArrowUp")
    expect(page.locator(".editing")).to_have_count(0)
    composer.fill("")
    page.keyboard.press("ArrowUp")
    expect(page.locator(".editing textarea")).to_be_focused()
    page.keyboard.type("，改了")
    page.keyboard.press("Escape")
    expect(page.locator(".bubble")).to_have_text("旧的")
    expect(composer).to_be_focused()

    page.keyboard.press("ArrowUp")
    page.keyboard.type("，改了")
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_have_text("旧的，改了")
    expect(page.locator(".reply .text")).to_have_text("二")
    expect(composer).to_be_focused()


def test_a_new_conversation_and_the_settings_are_a_key_away(console: Open) -> None:
    """Escape closes the settings, back to their button; Shift+Escape leads to the composer."""
    page = console(Script(pieces=("好",)))
    say(page, "你好")
    expect(page.locator(".reply .stats")).to_contain_text("token")
    page.focus("[aria-label='设置']")
    page.keyboard.press("Enter")
    expect(page.locator(".panel textarea")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".panel")).to_be_hidden()
    expect(page.locator("[aria-label='设置'].icon-button")).to_be_focused()
    page.keyboard.press("Shift+Escape")
    expect(page.locator(".composer textarea")).to_be_focused()

    page.keyboard.press("Control+Shift+O")
    expect(page.locator(".welcome")).to_be_visible()
    expect(page.locator(".composer textarea")).to_be_focused()
