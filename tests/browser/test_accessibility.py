"""Every page by axe-core, as WCAG 2.2 AA asks, and by keyboard, and without motion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from server.settings import ServerSettings
from tests.browser.conftest import PHONE, Open
from tests.fakes import Script
from tests.records import make_run, measure

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = Path(__file__).parents[1] / "clients" / "node" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("chat", "training", "data", "models", "logs", "overview")
# What axe calls "serious" or "critical" keeps people from using a page.
BARRIERS = ("serious", "critical")

needs_axe = pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: `make test` installs it")


def barriers(page: Page) -> list[str]:
    """What axe-core finds on the page as it is, a line each."""
    page.evaluate(AXE.read_text("utf-8"))  # not as a script: the page's policy lets none in
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']} ({each['impact']}): {each['help']}; {node['html'][:200]}"
        for each in found["violations"]
        if each["impact"] in BARRIERS
        for node in each["nodes"]
    ]


@needs_axe
@pytest.mark.parametrize(
    "look",
    [
        {"color_scheme": "light", "language": "zh-CN"},
        {"color_scheme": "dark", "language": "en-GB", "viewport": PHONE},
    ],
    ids=["light", "dark on a phone"],
)
def test_no_page_has_a_barrier(console: Open, look: dict[str, Any]) -> None:
    """In both appearances, languages and sizes; on the first one two models answer, or answered."""
    page = console(Script(pieces=("一", "`代码` https://lccc.test", "三")), **look)
    page.locator(".tool-end button").first.click()
    page.fill(".composer textarea", "你好 https://lccc.test")
    page.keyboard.press("Enter")
    page.wait_for_selector(".seed")
    page.locator(".tool-end button").nth(1).click()
    page.wait_for_selector(".panel h2")
    found = {"settings": lines} if (lines := barriers(page)) else {}
    for name in PAGES:
        page.evaluate("path => { location.hash = path }", f"#/{name}")
        page.wait_for_selector(f".rail a[href='#/{name}'][aria-current=page]")
        page.wait_for_selector("main :is(h1, h2, .composer)")
        if lines := barriers(page):
            found[name] = lines

    assert found == {}


@needs_axe
def test_the_sign_in_has_no_barrier(console: Open) -> None:
    """The first thing that anyone sees, and a bad key's answer."""
    page = console()
    page.click("button[aria-label='退出登录'], .rail-end button:last-child")
    page.wait_for_selector("input[type=password]")

    assert barriers(page) == []


FOCUSED = """() => {
  const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
  const element = document.activeElement;
  const name = element.getAttribute("aria-label") ?? element.textContent;
  return { name, ring: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
}"""


def tab_to(page: Page, name: str, most: int = 40) -> None:
    """Press Tab until what is called so has the focus; all that has it on the way shows it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        assert focused["ring"], focused
        if name in focused["name"]:
            return
    raise AssertionError(f"{name} is not reached with {most} times Tab")


def test_a_keyboard_is_enough(console: Open) -> None:
    """To skip to the content, talk, go to another page, and to open a dialog and leave it."""
    page = console(Script(pieces=("好",)))
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, "消息")
    page.keyboard.type("你好")
    page.keyboard.press("Enter")
    expect(page.locator(".reply .stats")).to_contain_text("token")

    page.locator(".rail a", has_text="模型").focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("模型")
    tab_to(page, "注册适配器")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="注册适配器")).to_be_focused()


def test_nothing_moves_for_who_asks_for_that(console: Open) -> None:
    """What pulsates while a reply is awaited stands still."""
    page = console(Script(pieces=("好",), hold_at=0), reduced_motion="reduce")
    page.fill(".composer textarea", "你好")
    page.keyboard.press("Enter")
    waiting = page.locator(".waiting")
    expect(waiting).to_be_visible()

    assert waiting.evaluate("each => getComputedStyle(each).animationName") == "none"
    page.click("button[aria-label='停止']")


SMALL = """() => {
  const touched = "button, a.button, a.icon-button, .rail a, select, textarea, summary, input";
  const seen = [...document.querySelectorAll(touched)].filter(each => each.checkVisibility());
  return seen.map(each => {
    const place = each.closest("label") ?? each; // of a box its words are touched, too
    const { width, height } = place.getBoundingClientRect();
    return Math.min(width, height) < 44 ? `${width} x ${height}: ${each.outerHTML}` : "";
  }).filter(Boolean);
}"""


def test_what_is_touched_is_no_smaller_than_a_finger(
    console: Open, settings: ServerSettings
) -> None:
    """44 pixels each way on every page of a phone, and nothing is wider than that."""
    done = make_run(settings.home.runs, state="completed")
    measure(done, steps=3)
    page = console(Script(pieces=("好",)), viewport=PHONE, has_touch=True, is_mobile=True)
    page.click("[aria-label='再加一个模型并排比较']")
    page.fill(".composer textarea", "你好")
    page.click(".composer button")
    page.wait_for_selector(".seed")
    found = {}
    for name in PAGES:
        page.evaluate("path => { location.hash = path }", f"#/{name}")
        page.wait_for_selector(f".rail a[href='#/{name}'][aria-current=page]")
        page.wait_for_selector("main :is(h1, h2, .composer)")
        if name == "training":
            page.wait_for_selector(".run-head .buttons a")
        if small := page.evaluate(SMALL):
            found[name] = small
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
    page.click(".rail .more")
    assert page.get_by_role("dialog").get_by_role("button").count() == 4

    assert found == {}
