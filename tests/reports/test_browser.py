"""The page in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from auditor.reports import html
from browsing import Opened

from auditor.result import Audit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture
def file(audit: Audit, tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(html.render(audit), encoding="utf-8")
    return path


@pytest.fixture
def faulty_file(faulty: Audit, tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(html.render(faulty), encoding="utf-8")
    return path


@pytest.fixture
def tried_file(tried: Audit, tmp_path: Path) -> Path:
    path = tmp_path / "tried.html"
    path.write_text(html.render(tried), encoding="utf-8")
    return path


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "blocked"])
def test_it_draws_without_complaint_or_request(browser: Browser, file: Path, scripts: bool) -> None:
    with Opened(browser, file, java_script_enabled=scripts) as opened:
        assert opened.page.locator("h1").is_visible()
        assert opened.page.locator("#tools").is_visible() is scripts
        assert opened.said == []
        assert [url for url in opened.asked if not url.startswith("data:")] == [opened.address]


FOREIGN = """() => [...document.querySelectorAll("*")].filter((node) =>
  [...node.attributes].some((a) => a.name.startsWith("on") || /^\\s*javascript:/i.test(a.value))
  || node.tagName === "IMG" && !node.src.startsWith("data:image/png;base64,")
  || ["IFRAME", "OBJECT", "EMBED", "FORM", "LINK", "BASE"].includes(node.tagName)
).map((node) => node.outerHTML.slice(0, 200))
.concat([...document.scripts].map((script) => script.type).join() === "application/json," ? [] : ["another script"])"""


@pytest.mark.parametrize("name", ["hostile", "huge"])
def test_nothing_that_a_script_named_acts(
    browser: Browser, audits: dict[str, Audit], tmp_path: Path, name: str
) -> None:
    path = tmp_path / "report.html"
    path.write_text(html.render(audits[name]), encoding="utf-8")
    with Opened(browser, path) as opened:
        opened.page.locator("#unfold").click()
        opened.page.keyboard.press("j")
        assert opened.page.evaluate(FOREIGN) == []
        assert opened.said == []
        assert [url for url in opened.asked if not url.startswith("data:")] == [opened.address]


def test_what_would_act_is_noticed_and_blocked(browser: Browser, faulty_file: Path) -> None:
    """The checks above are able to fail, and the page's policy holds even where escaping would not."""
    page = faulty_file.read_text(encoding="utf-8")
    injected = "<img src=x onerror=alert(1)><script>alert(2)</script></main>"
    faulty_file.write_text(page.replace("</main>", injected), encoding="utf-8")
    with Opened(browser, faulty_file) as opened:
        assert len(opened.page.evaluate(FOREIGN)) == 2
        assert opened.said
        assert not [text for text in opened.said if text.startswith("dialog")]


@pytest.mark.parametrize("width", [360, 768, 1920])
def test_nothing_flows_over(browser: Browser, file: Path, width: int) -> None:
    with Opened(browser, file, viewport={"width": width, "height": 800}) as opened:
        opened.page.locator("#unfold").click()
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "blocked"])
def test_a_deep_link_opens_its_finding(browser: Browser, faulty: Audit, faulty_file: Path, scripts: bool) -> None:
    for anchor in (f"#{faulty.findings[-1].id}", f"#{faulty.findings[1].id}", "#chart-sweep"):
        with Opened(browser, faulty_file, anchor, java_script_enabled=scripts) as opened:
            opened.page.locator(anchor).wait_for(state="visible", timeout=30_000)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "blocked"])
def test_a_deep_link_opens_the_fold_of_a_consequence(
    browser: Browser, tried: Audit, tried_file: Path, scripts: bool
) -> None:
    anchor = f"#{tried.findings[2].id}"
    with Opened(browser, tried_file, java_script_enabled=scripts) as opened:
        assert not opened.page.locator(anchor).is_visible()
    with Opened(browser, tried_file, anchor, java_script_enabled=scripts) as opened:
        opened.page.locator(anchor).wait_for(state="visible", timeout=30_000)


def test_keys_go_from_cause_to_cause_and_into_open_folds(browser: Browser, tried_file: Path) -> None:
    focused = "document.activeElement.querySelector('.rule').textContent"
    with Opened(browser, tried_file) as opened:
        seen = []
        for key in "jjk":
            opened.page.keyboard.press(key)
            seen.append(opened.page.evaluate(focused))
        assert seen == ["lr-too-high", "uncentered-inputs", "lr-too-high"]
        opened.page.locator(".consequences > summary").first.click()
        opened.page.evaluate("document.activeElement.blur()")
        opened.page.keyboard.press("j")
        opened.page.keyboard.press("j")
        assert opened.page.evaluate(focused) == "dead-units"


def test_a_diff_is_copied_as_it_is(browser: Browser, tried: Audit, tried_file: Path) -> None:
    with Opened(browser, tried_file, permissions=["clipboard-read", "clipboard-write"]) as opened:
        button = opened.page.locator("button.take").first
        button.click()
        opened.page.get_by_text("Copied").wait_for(timeout=30_000)
        assert opened.page.evaluate("navigator.clipboard.readText()") == tried.findings[0].fix.diff
        assert opened.said == []


@pytest.mark.parametrize(
    ("name", "begins"), [("Copy as Markdown", "### ✖ error **"), ("Copy as text", "✖ error OPT101")]
)
def test_a_finding_is_copied_whole(browser: Browser, faulty_file: Path, name: str, begins: str) -> None:
    with Opened(browser, faulty_file, permissions=["clipboard-read", "clipboard-write"]) as opened:
        opened.page.get_by_role("button", name=name).first.click()
        opened.page.get_by_text("Copied").wait_for(timeout=30_000)
        copied = opened.page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith(begins)
        assert "optimizer.zero_grad()" in copied
        assert opened.said == []


LABELS = """() => {
  const bad = [];
  for (const svg of document.querySelectorAll(".axes, .against")) {
    if (!svg.getClientRects().length) continue;
    const frame = (svg.closest("figure") ?? svg.parentElement).getBoundingClientRect();
    const boxes = [...svg.querySelectorAll("text")].filter((text) => text.textContent.trim())
      .map((text) => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([text, a], i) => {
      if (a.left < frame.left - 1 || a.right > frame.right + 1) bad.push(`${text} leaves its figure`);
      for (const [other, b] of boxes.slice(i + 1)) {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 3) bad.push(`${text} lies on ${other}`);
      }
    });
  }
  return bad;
}"""


@pytest.mark.parametrize("width", [390, 800, 1200])
def test_labels_lie_apart_and_the_grid_has_no_holes(browser: Browser, faulty_file: Path, width: int) -> None:
    with Opened(browser, faulty_file, viewport={"width": width, "height": 900}) as opened:
        opened.page.locator("#unfold").click()
        assert opened.page.evaluate(LABELS) == []
        rows: dict[float, list[dict[str, float]]] = {}
        for chart in opened.page.locator(".charts > .chart").all():
            box = chart.bounding_box()
            rows.setdefault(round(box["y"]), []).append(box)
        whole = opened.page.locator(".charts").bounding_box()["width"]
        assert rows
        for row in rows.values():
            assert sum(box["width"] for box in row) + 16 * (len(row) - 1) == pytest.approx(whole, abs=2)
            assert len({round(box["height"]) for box in row}) == 1


def test_curves_have_a_shape_without_scripts(browser: Browser, faulty_file: Path) -> None:
    with Opened(browser, faulty_file, java_script_enabled=False) as opened:
        box = opened.page.locator("#chart-loss path.line.bold").bounding_box()
        assert box
        assert box["width"] > 400
        assert box["height"] > 60


def test_pointing_at_a_plot_reads_it(browser: Browser, faulty_file: Path) -> None:
    with Opened(browser, faulty_file) as opened:
        opened.page.locator("#chart-loss svg.axes").hover()
        assert "loss" in opened.page.locator("#chart-loss output").inner_text()
        assert opened.said == []


def test_the_theme_can_be_switched(browser: Browser, faulty_file: Path) -> None:
    with Opened(browser, faulty_file, color_scheme="light") as opened:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = opened.page.evaluate(ground)
        opened.page.locator("#theme").click()
        assert opened.page.evaluate(ground) != light


CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || node.closest("script, style") || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const inside = node.closest("svg") && node.classList.contains("inside");
    if (inside) continue;
    const [a, b] = [light(parse(node.closest("svg") ? style.fill : style.color)), light(ground(node))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) bad.push(`${node.tagName}.${node.className.baseVal ?? node.className} ${ratio.toFixed(2)}`);
  }
  return [...new Set(bad)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["faulty", "tried"])
def test_text_stands_out_from_its_ground(
    browser: Browser, request: pytest.FixtureRequest, name: str, scheme: str
) -> None:
    with Opened(browser, request.getfixturevalue(f"{name}_file"), color_scheme=scheme) as opened:
        opened.page.locator("#unfold").click()
        assert opened.page.evaluate(CONTRAST) == []


def test_print_shows_what_is_folded(browser: Browser, faulty_file: Path) -> None:
    with Opened(browser, faulty_file, java_script_enabled=False) as opened:
        opened.page.emulate_media(media="print")
        assert opened.page.locator("#appendix h3").first.is_visible()
        assert not opened.page.locator("#tools").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_print_is_on_white_whatever_the_theme(browser: Browser, faulty_file: Path, scheme: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with Opened(browser, faulty_file, color_scheme=scheme) as opened:
        opened.page.locator("#theme").click()
        opened.page.emulate_media(media="print", color_scheme=scheme)
        assert opened.page.evaluate(ground) == "rgb(255, 255, 255)"
