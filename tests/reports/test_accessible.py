"""Everybody can read the page and use it: axe-core's rules, keys, the pointer, the filter."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from auditor.reports import html
from browsing import Opened

from auditor.result import Audit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
STANDARD = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture
def pages(audits: dict[str, Audit], tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name in ("faulty", "tried", "healthy", "crashed"):
        found[name] = tmp_path / f"{name}.html"
        found[name].write_text(html.render(audits[name]), encoding="utf-8")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["faulty", "tried", "healthy", "crashed"])
def test_axe_finds_nothing(browser: Browser, pages: dict[str, Path], name: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with Opened(browser, pages[name], color_scheme=scheme) as opened:
        opened.page.locator("#unfold").click()
        opened.page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
        results = axe.Axe().run(opened.page, options={**STANDARD, "resultTypes": ["violations"]})
        found = [
            (broken["id"], broken["impact"], [node["html"][:120] for node in broken["nodes"][:3]])
            for broken in results.response["violations"]
        ]
        assert found == []


def test_axe_can_find_something(browser: Browser, pages: dict[str, Path]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with Opened(browser, pages["faulty"]) as opened:
        opened.page.evaluate("document.querySelector('.axes').removeAttribute('aria-labelledby')")
        opened.page.evaluate("document.querySelector('.axes title').remove()")
        results = axe.Axe().run(opened.page, options={**STANDARD, "resultTypes": ["violations"]})
        assert "svg-img-alt" in [broken["id"] for broken in results.response["violations"]]


def test_tab_reaches_what_can_be_done_in_the_order_of_the_page(browser: Browser, pages: dict[str, Path]) -> None:
    with Opened(browser, pages["faulty"]) as opened:
        tops, seen = [], []
        for _ in range(22):  # after that, charts stand side by side
            opened.page.keyboard.press("Tab")
            top, name = opened.page.evaluate(
                "[document.activeElement.getBoundingClientRect().top + scrollY,"
                " document.activeElement.id || document.activeElement.tagName]"
            )
            tops.append(top)
            seen.append(name)
        assert seen[:3] == ["unfold", "theme", "print"]
        assert {"A", "SUMMARY", "wanted"} <= set(seen)
        back = [name for name, (before, after) in zip(seen[1:], pairwise(tops), strict=True) if after < before - 60]
        assert back == []


def test_what_is_focused_is_seen(browser: Browser, pages: dict[str, Path]) -> None:
    with Opened(browser, pages["faulty"]) as opened:
        opened.page.keyboard.press("j")
        style = opened.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid"


def test_targets_are_large_enough(browser: Browser, pages: dict[str, Path]) -> None:
    small = """[...document.querySelectorAll("button, summary, input, .counts a, .first a")]
      .filter((node) => node.getClientRects().length && node.getBoundingClientRect().height < 24)
      .map((node) => node.outerHTML.slice(0, 80))"""
    with Opened(browser, pages["faulty"], viewport={"width": 390, "height": 800}) as opened:
        opened.page.locator("#unfold").click()
        assert opened.page.evaluate(small) == []


def test_a_heat_map_is_read_under_the_pointer(browser: Browser, faulty: Audit, pages: dict[str, Path]) -> None:
    part = faulty.evidence.gradients
    with Opened(browser, pages["faulty"]) as opened:
        opened.page.locator("#unfold").click()
        axes = opened.page.locator("#chart-gradients .axes")
        axes.scroll_into_view_if_needed()
        box = axes.bounding_box()
        row, column = 1, 30
        x, y = (column + 0.5) / len(part.steps), (row + 0.5) / len(part.layers)
        opened.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        output = opened.page.locator("#chart-gradients output")
        output.wait_for(timeout=30_000)
        said = output.inner_text()
        assert "features.2" in said
        assert f"step {part.steps[column]}" in said
        assert float(re.search(r"≈ (\S+)", said)[1]) == pytest.approx(part.layers[row].norms[column], rel=0.06)
        opened.page.mouse.move(0, 0)
        output.wait_for(state="detached", timeout=30_000)
        assert opened.said == []
        assert [url for url in opened.asked if not url.startswith("data:")] == [opened.address]


def test_the_filter_leaves_what_has_the_words(browser: Browser, pages: dict[str, Path]) -> None:
    with Opened(browser, pages["faulty"]) as opened:
        shown = opened.page.locator("#findings > .finding:visible")
        every = shown.count()
        opened.page.keyboard.press("/")
        opened.page.keyboard.type("BIT for")
        assert shown.count() == 1
        assert "held-out samples" in shown.first.inner_text()
        assert "shown" in opened.page.locator("#found").inner_text()
        opened.page.keyboard.press("Escape")
        assert shown.count() == every
        assert opened.page.locator("#found").inner_text() == ""


def test_keys_open_all_and_change_the_theme(browser: Browser, pages: dict[str, Path]) -> None:
    with Opened(browser, pages["faulty"], color_scheme="light") as opened:
        closed = "document.querySelectorAll('details:not(.data):not([open])').length"
        assert opened.page.evaluate(closed) > 0
        opened.page.keyboard.press("o")
        assert opened.page.evaluate(closed) == 0
        opened.page.keyboard.press("t")
        assert opened.page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_print_leaves_out_what_only_a_screen_needs(browser: Browser, pages: dict[str, Path]) -> None:
    with Opened(browser, pages["faulty"]) as opened:
        opened.page.emulate_media(media="print")
        for name in ("#tools", "#filter", "#keys"):
            assert not opened.page.locator(name).is_visible()
