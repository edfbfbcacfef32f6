"""The models page: what is known of adapters, adapter against adapter, and jobs that can end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.base import read_base
from adapters.base_evaluations import BaseEvaluations
from adapters.manifest import Evaluation
from adapters.registry import Registry
from server.console.jobs import Jobs
from server.settings import ServerSettings
from tests.browser.conftest import Open
from tests.browser.test_accessibility import barriers, needs_axe
from tests.fakes import card
from tests.records import make_run
from tests.tiny import random_adapter, tiny_base
from tests.waiting import eventually

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import expect


def measured(dataset: str, **metrics: float) -> Evaluation:
    return Evaluation(dataset, dataset[0] * 64, "test", 96, 50, "greedy", 1_767_225_600, metrics)


@pytest.fixture
def registry(settings: ServerSettings) -> Registry:
    """Two adapters of a base that the scripted engine does not know, and nothing measured."""
    bases = settings.home.bases
    base = read_base(tiny_base(bases / "tiny"), "tiny")
    registry = Registry(settings.home.registry)
    for seed, name in enumerate(("cat", "scholar")):
        run = make_run(settings.home.runs, adapter=name, state="completed")
        random_adapter(run.adapter, bases / "tiny", seed=seed)
        registry.register(run.adapter, name, base)
    return registry


def test_one_of_many_models_is_found(console: Open) -> None:
    """Some are shown at a time, and more on demand; a part of the name finds one in all of them."""
    page = console()
    cards, search = page.locator("article.card"), page.get_by_role("searchbox")
    page.click(".rail >> text=模型")
    expect(cards).to_have_count(3)
    expect(search).to_be_hidden()
    page.click(".rail >> text=概览")
    page.live.engine.cards.extend(card(f"Poet-{number}", "pocket") for number in range(60))
    page.click(".rail >> text=模型")

    expect(cards).to_have_count(24)
    page.get_by_role("button", name="还有 39 个").click()
    expect(cards).to_have_count(48)
    search.fill("poet-59")
    expect(cards.locator("h2")).to_have_text(["Poet-59"])
    search.fill("nobody")
    expect(page.locator(".cards")).to_have_text("没有名称含有这些字的模型。")
    search.fill("")
    expect(cards).to_have_count(24)


def test_models_are_compared_by_what_was_measured(
    console: Open, registry: Registry, settings: ServerSettings
) -> None:
    """Nothing yet tells the command; then one table a split, with the better figure marked, and the
    base beside the adapters as soon as it is measured.
    """
    page = console()
    page.click(".rail >> text=模型")
    expect(page.locator(".command")).to_have_text(
        "lccc-admin evaluate pocket cat scholar --data DATASET"
    )

    for name, perplexity, bleu in (("cat", 9.7, 3.0), ("scholar", 11.2, 4.0)):
        metrics = {"perplexity_per_character": perplexity, "bleu_4_characters": bleu}
        registry.record_evaluation(registry.get(name), measured("lccc", **metrics))
    registry.record_evaluation(registry.get("cat"), measured("other", rouge_l_characters=20.0))

    table = page.locator("table.evaluations")
    expect(table).to_have_count(2)
    lccc = table.filter(has_text="lccc")
    expect(lccc.locator("thead th")).to_have_text(["指标", "cat", "scholar"])
    row = lccc.locator("tbody tr", has_text="每字困惑度")
    expect(row.locator("td")).to_have_text(["9.700", "11.200"])
    expect(row.locator("strong")).to_have_text("9.700")
    expect(lccc.locator("tbody tr", has_text="BLEU-4").locator("strong")).to_have_text("4.0")
    of_base = measured("lccc", perplexity_per_character=21.3)
    BaseEvaluations(settings.home.evaluations).record(page.live.engine.base.ref, of_base)
    expect(lccc.locator("thead th")).to_have_text(["指标", "pocket 基座", "cat", "scholar"])
    expect(row.locator("td")).to_have_text(["21.300", "9.700", "11.200"])
    expect(row.locator("strong")).to_have_text("9.700")
    page.uncheck(".choices input[value=pocket]")
    expect(lccc.locator(".about").nth(0)).to_contain_text("96 段对话，50 条回复")
    page.uncheck(".choices input[value=cat]")
    expect(lccc.locator("thead th")).to_have_text(["指标", "scholar"])


def test_an_adapter_says_where_it_is_from(console: Open, registry: Registry) -> None:
    """Size, requests and residency; a new one appears at once, told by the server's events."""
    page = console()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.click(".rail >> text=模型")
    cat = page.locator("article.card", has=page.locator("h2", has_text="cat"))
    expect(cat).to_contain_text("已服务的请求")
    expect(cat).to_contain_text("在别处训练")
    before = len([url for url in asked if url.endswith("/v1/models")])

    page.live.engine.cards.append(card("poet", "pocket"))

    expect(page.locator("article.card h2", has_text="poet")).to_be_visible()
    after = [url for url in asked if url.endswith("/v1/models")]
    assert len(after) - before <= 2  # told, not asking all the time


def test_a_merge_is_started_followed_and_cancelled(
    console: Open, registry: Registry, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the page; the job tells how far it is and goes on over a reload, and its end is seen
    there and on the disk.
    """
    run = make_run(settings.home.runs, state="running")
    begin = Jobs.start

    def slowly(jobs: Jobs, kind: Any, subject: str, arguments: Any, **more: Any) -> Any:
        """A process that runs until it is told to end, in place of the one asked for."""
        seen.append(list(arguments))
        return begin(jobs, kind, subject, ["runs", "watch", run.id], **more)

    seen: list[list[str]] = []
    monkeypatch.setattr(Jobs, "start", slowly)
    with run.held():
        page = console()
        page.click(".rail >> text=模型")
        page.click("[aria-label='把 cat 合并进基座']")
        page.fill("dialog [name=to]", "tiny-cat")
        page.click("dialog button.primary")
        job = page.locator(".job")
        expect(job.locator("strong")).to_have_text("合并 · cat → tiny-cat")
        expect(job.locator(".badge")).to_have_text("进行中")
        bar = page.get_by_role("progressbar", name="合并 cat → tiny-cat")
        assert bar.get_attribute("value") is None
        told = {"stage": "merging", "subject": "cat", "done": 3, "total": 4, "share": 0.375}
        (found,) = Jobs(settings.home).all()
        (found.directory / "progress").write_text(json.dumps(told))
        expect(bar).to_have_attribute("aria-valuetext", "38 % · 合并权重 · 3 / 4 · cat")
        assert bar.evaluate("bar => bar.value") == 0.375
        expect(job.locator(".hint")).to_have_text("合并权重 · 3 / 4 · cat")
        expect(job.locator(".elapsed")).to_contain_text("38 % · ")
        page.reload()
        expect(bar).to_have_attribute("aria-valuetext", "38 % · 合并权重 · 3 / 4 · cat")
        job.get_by_role("button", name="取消任务").click()
        page.get_by_role("dialog").get_by_role("button", name="取消任务").click()
        expect(job.locator(".badge")).to_have_text("已取消")
    (found,) = Jobs(settings.home).all()
    assert found.state() == "cancelled"
    assert seen == [
        [
            *("adapters", "merge", f"--out={settings.home.bases / 'tiny-cat'}", "--dtype=bf16"),
            *("--", "cat"),
        ]
    ]


@needs_axe
def test_figures_and_jobs_have_no_barrier(
    console: Open, registry: Registry, settings: ServerSettings
) -> None:
    """The table of figures, and a job that has failed."""
    registry.record_evaluation(registry.get("cat"), measured("lccc", rouge_l_characters=20.0))
    Jobs(settings.home).start("merge", "cat → x", ["data", "show", "none"])
    page = console()
    page.click(".rail >> text=模型")
    expect(page.locator("table.evaluations")).to_be_visible()
    expect(page.locator(".job .badge")).to_have_text("失败")

    assert barriers(page) == []


def test_an_adapter_is_renamed_and_removed(console: Open, registry: Registry) -> None:
    """In dialogs; the registry is what they say, and the list follows."""
    page = console()
    page.click(".rail >> text=模型")
    page.click("[aria-label='重命名 cat']")
    page.fill("dialog input", "kitten")
    page.click("dialog button.primary")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert sorted(registry.snapshot().entries) == ["kitten", "scholar"]
    page.click("[aria-label='移除 scholar']")
    page.click("dialog button.primary")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert eventually(lambda: sorted(registry.snapshot().entries) == ["kitten"])
