"""What the console costs a browser: ``make frames`` measures its first load and its long curves.

A real Chromium asks a real server on this machine. The first load is in bytes as they go over the
wire and in milliseconds from the navigation until one can write a message. A run of 100,000
measurements is then opened, zoomed by the wheel and moved by a finger, once a frame, and the time
between frames (requestAnimationFrame) is taken; at 60 Hz there is one each 16.7 ms.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.home import Home
from server.background import serve_in_thread
from server.settings import ServerSettings
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.fakes import ScriptedEngine
from tests.records import make_run
from tests.waiting import eventually
from training.runs import EventLog

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

POINTS = 100_000
LOADS = 7  # the first one, which starts Chromium's processes, does not count
FRAMES = 300
DESKTOP = {"width": 1280, "height": 900}

# Notes when one can write: the field is there, and so is the choice of models.
WHEN_READY = """
new MutationObserver((_, observer) => {
  const [field, model] = [".composer textarea", ".picker option"].map((each) => {
    return document.querySelector(each);
  });
  if (!field || !model) return;
  window.readyAt = performance.now();
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""
OPENED = """
async (path) => {
  const began = performance.now();
  location.hash = path;
  const isDrawn = () => {
    const canvas = document.querySelector(".chart canvas");
    const label = document.querySelector(".chart")?.getAttribute("aria-label") ?? "";
    return canvas && /\\d/.test(label);
  };
  while (!isDrawn()) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}
"""
MOVED = """
async ([how, frames]) => {
  const over = document.querySelector(".u-over");
  const { left, top, width, height } = over.getBoundingClientRect();
  const clientY = top + height / 2;
  const at = (x) => ({ bubbles: true, cancelable: true, clientX: left + x, clientY });
  const finger = (kind, x) => {
    const where = { ...at(x), pointerId: 1, pointerType: "touch" };
    over.dispatchEvent(new PointerEvent(`pointer${kind}`, where));
  };
  const acts = {
    wheel: (frame) => {
      const deltaY = frame % 40 < 20 ? -1 : 1;
      over.dispatchEvent(new WheelEvent("wheel", { ...at(width / 3), deltaY }));
    },
    finger: (frame) => {
      const x = frame % 60;
      if (!x) finger("down", width / 2);
      finger("move", width / 2 + (frame % 120 < 60 ? 4 : -4) * x);
      if (x === 59) finger("up", width / 2);
    },
  };
  const deltas = [];
  let before = await new Promise(requestAnimationFrame);
  for (let frame = 0; frame < frames; frame += 1) {
    acts[how](frame);
    const now = await new Promise(requestAnimationFrame);
    deltas.push(now - before);
    before = now;
  }
  return deltas;
}
"""


def main() -> None:
    """Measure, and print the figures: a line each, or JSON with ``--json``."""
    if CHROMIUM is None:
        sys.exit("No Chromium: install it, for example with `apt-get install chromium`.")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="lccc-frames-") as folder:
        home = Home(Path(folder) / "home")
        run = make_run(home.runs, state="completed", total_steps=POINTS)
        _measure(run.events_path)
        settings = ServerSettings(home=home, port=0)
        with (
            serve_in_thread(settings, ScriptedEngine()) as serving,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            link = f"{serving.base_url}/console#token={serving.token}"
            found = _first_load(browser, link) | _curves(browser, link, run.id)
            browser.close()
    lines = [f"{name.replace('_', ' ')}: {value:g}" for name, value in found.items()]
    print(json.dumps(found) if "--json" in sys.argv else "\n".join(lines))  # noqa: T201


def _measure(path: Path) -> None:
    """Every quantity that a page draws, at each of the steps, and a validation now and then."""
    log = EventLog(path)
    log.append("status", 0, state="running", message="started")
    for step in range(1, POINTS + 1):
        loss = 4 / (1 + step / 20_000) + (step * 7919 % 1000) / 1000
        log.append(
            "train",
            step,
            loss=loss,
            learning_rate=1e-4 * (1 - step / POINTS),
            gradient_norm=0.5 + loss / 10,
            tokens_per_s=5000 + step % 97,
            memory_bytes=2**30 + step,
        )
        if step % 1000 == 0:
            log.append("evaluation", step, validation_nll=loss)
    log.close()


def _signed_in(browser: Browser, link: str) -> BrowserContext:
    profile = browser.new_context(viewport=DESKTOP, locale="en-GB")
    base, _, token = link.partition("/console#token=")
    answer = profile.request.post(f"{base}/admin/session", data={"key": token})
    assert answer.ok
    return profile


def _wait_until_ready(page: Page) -> None:
    """By asking: the page's own policy forbids Playwright's way of waiting for an expression."""
    assert eventually(lambda: bool(page.evaluate("window.readyAt !== undefined")))


def _first_load(browser: Browser, link: str) -> dict[str, float]:
    ready, sizes = [], []
    for _ in range(LOADS):
        profile = _signed_in(browser, link)
        page = profile.new_page()
        page.add_init_script(WHEN_READY)
        received = _received(page)
        page.goto(link.partition("#")[0])
        _wait_until_ready(page)
        ready.append(page.evaluate("window.readyAt"))
        page.wait_for_load_state("networkidle")
        sizes.append(sum(received.values()))
        profile.close()
    return {
        "first_load_bytes": max(sizes),
        "first_load_files": len(received),
        "interactive_ms_median": _rounded(statistics.median(ready[1:])),
        "interactive_ms_most": _rounded(max(ready[1:])),
    }


def _received(page: Page) -> dict[str, float]:
    """Bytes of the console's files as they came over the wire, by request; filled as they come."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    ours: dict[str, float] = {}

    def asked(event: dict[str, Any]) -> None:
        if "/console" in event["request"]["url"]:
            ours[event["requestId"]] = 0.0

    def ended(event: dict[str, Any]) -> None:
        if event["requestId"] in ours:
            ours[event["requestId"]] = event["encodedDataLength"]

    devtools.on("Network.requestWillBeSent", asked)
    devtools.on("Network.loadingFinished", ended)
    return ours


def _curves(browser: Browser, link: str, run_id: str) -> dict[str, float]:
    profile = _signed_in(browser, link)
    page = profile.new_page()
    page.goto(link.partition("#")[0])
    page.wait_for_selector(".composer")
    found: dict[str, float] = {"points": POINTS}
    found["points_drawn_ms"] = _rounded(page.evaluate(OPENED, f"#/training/{run_id}"))
    page.wait_for_timeout(1000)
    for how in ("wheel", "finger"):
        deltas = page.evaluate(MOVED, [how, FRAMES])
        found |= {
            f"{how}_frame_ms_median": _rounded(statistics.median(deltas)),
            f"{how}_frame_ms_p95": _rounded(statistics.quantiles(deltas, n=20)[-1]),
            f"{how}_frame_ms_most": _rounded(max(deltas)),
        }
    profile.close()
    return found


def _rounded(value: float) -> float:
    return round(value, 1)


if __name__ == "__main__":
    main()
