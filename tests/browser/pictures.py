"""Pictures of every page of the console, over the demo's models: ``make pictures``.

They are taken of a real server in a real Chromium, on a desktop in light and in dark and on a
phone, and lie in ``build/pictures`` afterwards; those that the README shows go to ``docs``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.home import Home
from server.background import serve_in_thread
from server.settings import ServerSettings
from tests.browser.conftest import CHROMIUM, FLAGS, PHONE
from tests.demo import lccc_admin, made_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
PICTURES, DOCS = ROOT / "build" / "pictures", ROOT / "docs"
PAGES = ("chat", "training", "sweep", "data", "models", "logs", "overview")
DESKTOP = {"width": 1280, "height": 800}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": DESKTOP, "locale": "en-GB"},
    "dark": {"color_scheme": "dark", "viewport": DESKTOP, "locale": "en-GB"},
    "phone": {"color_scheme": "light", "viewport": PHONE, "locale": "zh-CN"},
}
SWEEP = "rates"
RATES = """\
name = "{name}"
data = "demo-cat"
base = "pocket"

[recipe]
training = {{ max_steps = 40, batch_size = 16, gradient_accumulation = 1 }}
record = {{ evaluate_every = 20 }}

[fields]
"training.learning_rate" = [1e-3, 5e-3]
"lora.r, lora.alpha" = [[4, 8], [16, 32]]
"""
SHOWN = ("chat-light", "training-dark", "models-phone")
# A temporary directory's name would be another in each picture, and tells a reader nothing.
NAME_HOME = """home => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    walker.currentNode.data = walker.currentNode.data.replaceAll(home, "$LCCC_HOME");
  }
}"""
SETTLE_MS = 1500  # charts are drawn, lists are read


def main() -> None:
    """Make the demo in a home of its own, serve it, and take all pictures."""
    if CHROMIUM is None:
        sys.exit("No Chromium: install it, for example with `apt-get install chromium`.")
    from playwright.sync_api import sync_playwright

    PICTURES.mkdir(parents=True, exist_ok=True)
    DOCS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lccc-pictures-") as folder:
        home = made_in(Home(Path(folder) / "home"), briefly=False).home
        few = ("--dialogues", "50", "--replies", "20")  # the models page compares them by it
        measured = lccc_admin(
            home, "evaluate", "pocket", "cat", "scholar", "--data", "demo-cat", *few
        )
        if measured.exit_code:
            sys.exit(measured.stderr)
        _search(home)
        settings = ServerSettings(home=home, port=0, base="pocket")
        with serve_in_thread(settings) as serving, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            for look, context in LOOKS.items():
                url = f"{serving.base_url}/console#token={serving.token}"
                _take(browser, url, look, context, str(home.root))
            browser.close()
    for name in SHOWN:
        shutil.copy(PICTURES / f"{name}.png", DOCS / f"console-{name}.png")
    print(f"{len(LOOKS) * len(PAGES)} pictures in {PICTURES}, {len(SHOWN)} of them in {DOCS}.")  # noqa: T201


def _search(home: Home) -> None:
    """A small sweep over learning rates and ranks, to its end."""
    file = home.root / "rates.toml"
    file.write_text(RATES.format(name=SWEEP), "utf-8")
    done = lccc_admin(home, "sweep", str(file), "--no-register")
    if done.exit_code:
        sys.exit(done.stderr)


def _take(browser: Browser, url: str, look: str, context: dict[str, Any], home: str) -> None:
    profile = browser.new_context(**context)
    page = profile.new_page()
    page.goto(url)
    page.wait_for_selector(".rail")
    _talk(page)
    for name in PAGES:
        place = f"training/sweep:{SWEEP}" if name == "sweep" else name
        page.evaluate("path => { location.hash = path }", f"#/{place}")
        if name == "training":
            page.click("a[href^='#/training/cat-']")
        page.wait_for_timeout(SETTLE_MS)
        page.evaluate(NAME_HOME, home)
        page.screenshot(path=PICTURES / f"{name}-{look}.png")
    profile.close()


def _talk(page: Page) -> None:
    """One question to the base and both adapters, beside each other."""
    page.evaluate("location.hash = '#/chat/pocket,cat,scholar'")
    page.locator(".picker").nth(2).wait_for()
    page.fill(".composer textarea", "今天加班到10点，好累啊")
    page.keyboard.press("Enter")
    for index in range(3):
        page.locator(".reply footer button").nth(2 * index).wait_for()


if __name__ == "__main__":
    main()
