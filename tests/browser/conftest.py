"""A real Chromium before a live server. Skipped where no Chromium is installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import pytest

from adapters.home import Home
from server.background import serve_in_thread
from server.process import Serving
from server.settings import ServerSettings
from tests.conftest import Live
from tests.fakes import Script, ScriptedEngine, card

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
ELSEWHERE = "lccc.test"  # to a browser not this machine, so that it trusts no page from there
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
)
PHONE = {"width": 390, "height": 844}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of this folder; each has its own profile in it.

    Playwright's event loop runs in this thread until the end, and no other can meanwhile.
    """
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it, for example with `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Seen:
    """What a page must not do: errors in its console, requests to anyone but its own server."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


Open = Callable[..., "Page"]


@pytest.fixture
def console(chromium: Browser, settings: ServerSettings, routes_once: None) -> Iterator[Open]:
    """Open the console of a server with scripts, signed in by its link, at ``host``.

    At the end of the test no page may have logged an error or asked another host for anything.
    """
    seen = Seen()
    closing: list[Any] = []

    def open_console(
        *scripts: Script, language: str = "zh-CN", host: str = "127.0.0.1", **context: Any
    ) -> Page:
        engine = ScriptedEngine(
            scripts=scripts or (Script(),),
            cards=[card("pocket"), card("cat", "pocket", rank=16), card("scholar", "pocket")],
        )
        changed = msgspec.structs.replace(settings, allowed_hosts=(ELSEWHERE,))
        serving = serve_in_thread(changed, engine)
        live = Live(serving.__enter__(), engine)
        closing.append(serving)
        profile = chromium.new_context(locale=language, **context)
        closing.append(profile)
        page = profile.new_page()
        address = live.serving.base_url.replace("127.0.0.1", host)
        watch(page, seen, address)
        page.live, page.seen = live, seen  # type: ignore[attr-defined]
        page.goto(f"{address}/console#token={live.serving.token}")
        page.wait_for_selector(".rail")
        return page

    yield open_console
    for each in reversed(closing):
        each.__exit__(None, None, None)
    assert not seen.errors
    assert not seen.foreign


@dataclass
class Workshop:
    """A real server whose base is the tiny one, and a browser profile that is signed in there."""

    serving: Serving
    home: Home
    profile: BrowserContext
    seen: Seen

    def open(self, path: str = "") -> Page:
        """A tab of the console at ``path``."""
        page = self.profile.new_page()
        watch(page, self.seen, self.serving.base_url)
        page.goto(f"{self.serving.base_url}/console#token={self.serving.token}")
        page.wait_for_selector(".rail")
        if path:
            page.evaluate("path => { location.hash = path }", f"#/{path}")
        return page


@pytest.fixture
def workshop(chromium: Browser, settings: ServerSettings) -> Iterator[Workshop]:
    """Everything real: the engine, trainings, datasets; what the console must not do is noted."""
    from tests.tiny import tiny_base

    tiny_base(settings.home.bases / "tiny")
    seen = Seen()
    changed = msgspec.structs.replace(settings, base="tiny", device="cpu")
    with serve_in_thread(changed) as serving:
        profile = chromium.new_context(locale="zh-CN")
        profile.set_default_timeout(120_000)
        yield Workshop(serving, settings.home, profile, seen)
        profile.close()
    assert not seen.errors
    assert not seen.foreign


def watch(page: Page, seen: Seen, own: str) -> None:
    """Note what must not happen in ``page``."""
    host = urlsplit(own).netloc
    page.on("console", lambda said: said.type == "error" and seen.errors.append(said.text))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            urlsplit(asked.url).netloc not in (host, "") and seen.foreign.append(asked.url)
        ),
    )
