"""Addresses that are written out are links, and nothing else of a text becomes one."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Open
from tests.fakes import Script

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import expect

# What is written, and what of it is a link.
WRITTEN = (
    (
        "看看 https://example.com/a?b=1&c=%E4%BD%A0#d。谢谢",
        "https://example.com/a?b=1&c=%E4%BD%A0#d",
    ),
    ("网址是http://127.0.0.1:8000/docs，你看", "http://127.0.0.1:8000/docs"),
    ("（https://example.com/文档）", "https://example.com/"),
    ("《https://example.com/b》、https", "https://example.com/b"),
    ("(see https://en.wikipedia.org/wiki/A_(b)).", "https://en.wikipedia.org/wiki/A_(b)"),
    ("**https://example.com/bold**!", "https://example.com/bold"),
    ("Is it HTTPS://EXAMPLE.COM/X?!", "HTTPS://EXAMPLE.COM/X"),
    ("[文档](https://example.com/docs)", "https://example.com/docs"),
)
# Of these nothing may be a link: no address, one that runs, or one that hides whose it is.
NONE = (
    "javascript:alert(1)",
    "data:text/html,<script>document.title='ran'</script>",
    "https://",
    "xhttps://example.com",
    "https://your-bank.example@attacker.example/",
    "[press](https://your-bank.example@attacker.example/)",
    "`https://example.com/code`",
    "https://[::1",
)
# Of these only the address is one, whatever is around it or in it.
HOSTILE = (
    ("https://a.example/\"onmouseover=\"document.title='ran'", "https://a.example/"),
    ("<a href=https://a.example/1 onclick=document.title='ran'>x</a>", "https://a.example/1"),
    ("https://a.example/<img src=x onerror=document.title='ran'>", "https://a.example/"),
    ("https://a.example/\u202egnp.exe", "https://a.example/"),
    ("https://a.example/`<script>", "https://a.example/"),
)


def test_addresses_are_links_to_elsewhere(console: Open) -> None:
    """In replies and in messages; what stands behind them is not part of them, nor markup."""
    cases = WRITTEN + HOSTILE
    text = "\n\n".join([each for each, _ in cases] + list(NONE))
    page = console(Script(pieces=(text,)))
    page.fill(".composer textarea", text.replace("[文档](https://example.com/docs)", "文档"))
    page.keyboard.press("Enter")
    expect(page.locator(".reply .stats")).to_contain_text("token")

    links = page.locator(".reply .text a")
    found = links.evaluate_all("all => all.map(each => each.getAttribute('href'))")
    assert found == [address for _, address in cases]
    shown = links.evaluate_all("all => all.map(each => each.textContent)")
    assert shown == [address if "docs)" not in each else "文档" for each, address in cases]
    for each in page.locator(".text a, .bubble a").all():
        assert each.get_attribute("rel") == "noopener noreferrer nofollow"
        assert each.get_attribute("target") == "_blank"
    said = page.locator(".bubble")
    expect(said).to_have_text(text.replace("[文档](https://example.com/docs)", "文档"))
    in_message = said.locator("a").evaluate_all("all => all.map(each => each.textContent)")
    known = [address for each, address in cases if "docs)" not in each]
    assert in_message == [*known, "https://example.com/code"]  # messages are no Markdown
    assert page.locator(".text, .bubble").locator("img, script, [onmouseover]").count() == 0
    assert "ran" not in page.title()


TITLES = {
    "今天加班到10点，好累啊。": "今天加班到10点，好累啊",
    "\n\n## 帮我写一首诗\n要押韵": "帮我写一首诗",
    "请把下面这段话翻译成英文，注意保留人名和地名，不要漏掉任何一句": "请把下面这段话翻译成英文…",
    "Please explain how LoRA adapters are merged, and why": "Please explain how LoRA adapters are…",
    "看 https://example.com/very/long/path?x=1": "看 example.com",
    "一" * 30: "一" * 20 + "…",
    "```\nprint(1)\n```": "print(1)",
    "???": "???",
}


def test_first_titles_are_what_it_is_about(console: Open) -> None:
    """The first line without marks, cut where a phrase ends."""
    page = console()
    made = page.evaluate(
        """async texts => {
          const { titleOf } = await import("/console/js/title.js");
          return texts.map(titleOf);
        }""",
        list(TITLES),
    )
    assert made == list(TITLES.values())
