"""Every page by axe-core: names, roles, order and contrast, as WCAG 2.2 AA asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import PHONE, Open
from tests.fakes import Script

pytest.importorskip("playwright.sync_api")

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
    """In both appearances, languages and sizes, with a conversation on the first one."""
    page = console(Script(pieces=("一", "`代码`", "三")), **look)
    page.fill(".composer textarea", "你好")
    page.keyboard.press("Enter")
    page.wait_for_selector(".reply .stats")
    found = {}
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
