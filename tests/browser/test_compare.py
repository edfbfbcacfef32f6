"""Models that answer the same question beside each other, and replies that are written again."""

from __future__ import annotations

import pytest

from tests.browser.conftest import PHONE, Open
from tests.browser.test_chat_page import say
from tests.fakes import Script, card

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import Page, expect

ADD = "[aria-label='再加一个模型并排比较']"


def lefts(page: Page) -> list[float]:
    """Where the columns of the last turn begin."""
    boxes = [each.bounding_box() for each in page.locator(".turn").last.locator(".reply").all()]
    return [box["x"] for box in boxes if box]


def test_four_models_answer_one_question_side_by_side(console: Open) -> None:
    """All at once, streaming, with one seed and the same sampling; below each other on a phone."""
    held = [Script(pieces=(each, f"{each}！"), hold_at=1) for each in "甲乙丙丁"]
    page = console(*held, Script(pieces=("戊",)), viewport={"width": 1440, "height": 900})
    page.live.engine.cards.append(card("poet", "pocket"))
    expect(page.locator(".picker option")).to_have_count(4)
    for count in (2, 3, 4):
        page.click(ADD)
        expect(page.locator(".picker")).to_have_count(count)
    expect(page.locator(ADD)).to_be_disabled()
    assert (
        page.locator(".picker select").nth(1).input_value() == "pocket"
    )  # the base, to begin with
    page.click("[aria-label='设置']")
    page.fill(".panel label:has-text('temperature') input", "0.5")
    page.click(".panel [aria-label='关闭']")
    say(page, "你好")

    texts = page.locator(".reply .text")
    for each in "甲乙丙丁":  # while none has ended
        expect(texts.filter(has_text=each)).to_have_count(1)
    engine = page.live.engine
    assert len({each.sampling.seed for each in engine.requests}) == 1
    assert engine.requests[0].sampling.seed is not None
    assert {each.sampling.temperature for each in engine.requests} == {0.5}
    assert {each.model for each in engine.requests} == {"cat", "pocket", "scholar", "poet"}
    assert len(set(lefts(page))) == 4
    engine.release()
    expect(page.locator(".reply .stats").nth(3)).to_contain_text("token")
    page.set_viewport_size(PHONE)
    assert len(set(lefts(page))) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.set_viewport_size({"width": 1440, "height": 900})

    expect(page.locator(".seed")).to_contain_text(str(engine.requests[0].sampling.seed))
    page.click(".seed button")
    page.locator("section.reply").nth(1).locator("[aria-label='重新生成']").click()
    expect(texts.filter(has_text="戊")).to_have_count(1)
    assert len(engine.requests) == 5  # the others stay as they are
    assert engine.requests[4].model == "pocket"
    assert engine.requests[4].sampling.seed == engine.requests[0].sampling.seed


def test_replies_before_the_last_one_are_looked_at_again(console: Open) -> None:
    """Forth and back, kept over a reload; the talk goes on from the one that is shown."""
    page = console(*(Script(pieces=(each,)) for each in "一二三四"))
    say(page, "说")
    text = page.locator(".reply .text")
    for each in ("一", "二", "三"):
        expect(text).to_have_text(each)
        if each != "三":
            page.click(".reply [aria-label='重新生成']")
    expect(page.locator(".versions")).to_contain_text("3 / 3")
    expect(page.locator("[aria-label='下一次的回复']")).to_be_disabled()

    page.click("[aria-label='上一次的回复']")
    page.click("[aria-label='上一次的回复']")
    expect(text).to_have_text("一")
    page.click("[aria-label='下一次的回复']")
    expect(text).to_have_text("二")
    page.reload()
    expect(text).to_have_text("二")
    expect(page.locator(".versions")).to_contain_text("2 / 3")
    say(page, "然后")
    expect(text.nth(1)).to_have_text("四")
    assert [each["content"] for each in page.live.engine.prompts[-1]] == ["说", "二", "然后"]


def test_talk_is_dropped_only_after_a_question(console: Open) -> None:
    """By asking an earlier question anew; a no leaves everything as it was."""
    page = console(*(Script(pieces=(each,)) for each in "一二三"))
    for said, reply in (("甲", "一"), ("乙", "二")):
        say(page, said)
        expect(page.locator(".reply .text").last).to_have_text(reply)
    again = page.locator(".reply").first.locator("[aria-label='重新生成']")

    again.click()
    page.get_by_role("dialog").get_by_role("button", name="取消").click()
    expect(page.locator(".bubble")).to_have_text(["甲", "乙"])
    again.click()
    page.get_by_role("dialog").get_by_role("button", name="删除并继续").click()
    expect(page.locator(".reply .text")).to_have_text(["三"])
    expect(page.locator(".bubble")).to_have_text(["甲"])


def test_a_link_opens_a_talk_with_an_adapter_beside_its_base(console: Open) -> None:
    """From the page of models; a reload goes on with what was said there."""
    page = console(Script(pieces=("喵",)))
    page.click(".rail >> text=模型")
    page.click("[aria-label='cat 与基座并排聊天']")

    selects = page.locator(".picker select")
    expect(selects).to_have_count(2)
    assert [each.input_value() for each in selects.all()] == ["pocket", "cat"]
    say(page, "你好")
    expect(page.locator(".reply .text")).to_have_text(["喵", "喵"])
    page.reload()
    expect(page.locator(".bubble")).to_have_text("你好")
