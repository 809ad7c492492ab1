"""The page: one file, well formed, harmless, small."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from auditor.reports import curves, html, page, painted, pairs, scale, words

from auditor.result import Audit, Fix, ReportedFinding

VOID = {"meta", "br", "img", "hr", "input", "link"}
SVG_LEAVES = {"use", "path", "rect", "circle", "line", "image"}


class Reader(HTMLParser):
    """Checks that tags balance and gathers what the page would do."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.problems: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.problems.append(f"<{tag}> has an attribute twice: {names}")
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in SVG_LEAVES:
            self.problems.append(f"<{tag}/> closes itself")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> in {self.open[-4:]} at {self.getpos()}")
        if self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        kind = self.open[-1] if self.open else ""
        {"script": self.scripts, "style": self.styles}.get(kind, self.text).append(data)


@pytest.fixture
def text(audit: Audit) -> str:
    return html.render(audit)


@pytest.fixture
def read(text: str) -> Reader:
    return Reader(text)


def test_tags_balance(read: Reader) -> None:
    assert read.problems == []
    assert read.open == []


def test_ids_are_unique_and_links_have_targets(read: Reader) -> None:
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"][1:] for _, attrs in read.tags if attrs.get("href", "").startswith("#")}
    assert targets <= set(ids)


def test_nothing_is_loaded(read: Reader) -> None:
    for tag, attrs in read.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "audio", "video"}
        assert not any(name.startswith("on") for name in attrs), attrs
        assert "style" not in attrs
        if tag in {"img", "image", "script", "use"}:
            for name in ("src", "href"):
                assert attrs.get(name, "data:").startswith(("data:image/png;base64,", "data:", "#"))
    assert "@import" not in "".join(read.styles)
    assert re.findall(r"url\((?!#)", "".join(read.styles)) == []


def test_links_go_to_the_web_or_to_the_page(read: Reader) -> None:
    for tag, attrs in read.tags:
        if tag == "a":
            assert attrs["href"].startswith(("#", "https://", "http://"))


def test_the_policy_names_our_script_and_style_only(read: Reader) -> None:
    policy = next(attrs["content"] for _, attrs in read.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    data, script = read.scripts  # the data is none that a browser would run
    assert isinstance(json.loads(data), dict)
    assert [attrs.get("type") for tag, attrs in read.tags if tag == "script"] == ["application/json", None]
    assert len(read.styles) == 1
    for kind, content in (("script", script), ("style", read.styles[0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_is_small_and_has_no_control_characters(text: str) -> None:
    assert len(text.encode()) < 500_000
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)


def test_the_page_stays_small_whatever_the_program_has(huge: Audit) -> None:
    shown = html.render(huge)
    assert 100_000 < len(shown.encode()) <= html.LIMIT
    read = Reader(shown)
    assert (read.problems, read.open) == ([], [])
    assert f"{120 - shown.count('<article')} more findings; the JSON report has all." in shown


def test_a_fix_leads_nowhere(faulty: Audit) -> None:
    links = "[click](https://example.com/a) <https://example.com/b> [c][d]\n\n[d]: https://example.com/d"
    found = faulty.findings[0].model_copy(update={"fix": Fix(text=links)})
    assert "example.com" not in str([attrs for _, attrs in Reader(html.render(with_finding(faulty, found))).tags])
    documented = found.model_copy(update={"why": links})
    assert "https://example.com/a" in str(Reader(html.render(with_finding(faulty, documented))).tags)


def with_finding(audit: Audit, finding: ReportedFinding) -> Audit:
    return audit.model_copy(update={"findings": (finding,)})


def test_rendering_is_deterministic(audit: Audit, text: str) -> None:
    assert html.render(audit) == text


def test_pictures_have_a_title_and_a_conclusion(read: Reader) -> None:
    ids = {attrs["id"] for _, attrs in read.tags if "id" in attrs}
    pictures = [attrs for _, attrs in read.tags if attrs.get("role") == "img"]
    for attrs in pictures:
        assert attrs.get("aria-label") or set(attrs["aria-labelledby"].split()) <= ids


def test_headings_do_not_skip_a_level(read: Reader) -> None:
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels)), levels


def test_the_faulty_page_tells_everything(faulty: Audit) -> None:
    shown = " ".join("".join(Reader(html.render(faulty)).text).split())
    for said in (
        "Not ready: 2 faults (3 errors) would waste this run.", "train.py --epochs 10", "Fix these first", "1.04×",
        "2.13.0",
        "Tried on your loop: it helped", "Gradients cleared once an update: loss after 60 steps 2.25 → 0.41",
        "audit fix train.py applies it.", "# audit: ignore[OPT101] reason", "from step 0",
        "2 consequences: exploding-gradients and lr-too-high", "a score that is too good cannot be repaired",
        "Loops that accumulate over several micro-batches", "labels differ", "242 further pairs", "ln 10 = 2.303",
        "suggested 0.0032", "yours 0.5", "diverged 0.62", "features.0", "seeds differ between runs on purpose",
        "needs 200 steps, saw 60", "autocast is not used", "CosineAnnealingLR", "checkpoints/best.pt",
        "the loss diverged", "waives nothing",
    ):  # fmt: skip
        assert said in shown, said


def test_every_chart_stands_on_the_page_once(faulty: Audit) -> None:
    keys = [attrs["id"] for tag, attrs in Reader(html.render(faulty)).tags if tag == "figure" and "id" in attrs]
    keys = [key for key in keys if not key.endswith("-tried")]
    assert sorted(keys) == sorted(chart.key for chart in page.charts(faulty.evidence))
    assert len(keys) == 12


def test_a_replay_that_a_trial_shows_is_not_drawn_again(faulty: Audit) -> None:
    look = faulty.evidence.lower_rate.looks[0]
    cause = faulty.findings[0]
    trial = cause.fix.trial.model_copy(update={"control": look.control, "treated": look.treated})
    found = cause.model_copy(update={"fix": cause.fix.model_copy(update={"trial": trial})})
    both = faulty.model_copy(update={"findings": (found, *faulty.findings[1:])})
    read = Reader(html.render(both))
    figures = [attrs["id"] for tag, attrs in read.tags if tag == "figure" and "id" in attrs]
    assert "chart-lower-rate" in [chart.key for chart in page.charts(both.evidence)]
    assert "chart-lower-rate" not in figures
    assert f"{cause.id}-tried" in figures
    named = [chart.title for chart in page.layout(both).claimed]
    assert named.count("Replay at a lower learning rate") == 1


def test_a_long_curve_is_smoothed_where_there_is_room_to_draw() -> None:
    values = [float(i % 7) for i in range(5000)]
    values[2501] = math.nan
    smooth = curves.smoothed(values)
    assert smooth
    assert len(smooth.steps) == len(smooth.values) <= 241
    assert smooth.steps[-1] == 4999
    assert smooth.window == 51
    middle = smooth.steps[100]
    assert smooth.values[100] == pytest.approx(sum(values[middle - 25 : middle + 26]) / 51)
    holes = [step for step, value in zip(smooth.steps, smooth.values, strict=True) if math.isnan(value)]
    assert len(holes) == 1
    assert 0 <= holes[0] - 2501 < 21
    assert curves.smoothed(values[:29]) is None


def test_curves_of_a_trial_are_drawn_named_and_listed(tried: Audit) -> None:
    read = Reader(html.render(tried))
    figures = [attrs["id"] for tag, attrs in read.tags if tag == "figure" and attrs.get("id", "").endswith("-tried")]
    assert figures == [f"{tried.findings[i].id}-tried" for i in (0, 3, 6, 7)]
    shown = " ".join("".join(read.text).split())
    for said in (
        "As it is, the loop diverged at step 38; with this change, the loss ended at 0.41.", "diverged at step 38",
        "as it is (solid; bold: mean of 5 steps around it)", "with the fix (dashed)",
        "No help: the loss ended at 2.24 with this change, and at 2.21 as it is.",
        "Tried on your loop: it did not help",
        "balanced error rate after 24 steps 88 % → 52 %", "−42 to −31 points", "Not tried on your loop",
        "the learning rate times 0.25: helped less (NaN → 0.87)", "by way of dead-units",
    ):  # fmt: skip
        assert said in shown, said


def test_a_curve_has_a_gap_where_it_is_no_number(tried: Audit) -> None:
    chart = page.layout(tried).cards[0].repair.chart
    assert chart
    assert chart.table
    assert [row[1] for row in chart.table.rows[37:40]] == [
        words.number(tried.findings[0].fix.trial.control[37]),
        "∞",
        "NaN",
    ]
    faint = re.findall(r'<path class="line s1 faint" d="([^"]*)"', chart.figure)
    assert len(faint) == 1
    assert faint[0].count("M") == 1
    assert faint[0].count("L") == 37


def test_what_did_not_help_is_never_green(tried: Audit) -> None:
    shown = html.render(tried)
    section = re.search(r'<section class="tried"><h4>.*?did not help.*?</section>', shown, re.S)
    assert section
    assert "#i-pass" not in section[0]
    assert shown.count('class="fix refuted"') == 1
    assert shown.count('<section class="tried helped">') == 3


def test_a_diff_is_marked_by_more_than_colour(tried: Audit) -> None:
    read = Reader(html.render(tried))
    assert [tag for tag, attrs in read.tags if attrs.get("class", "").startswith("row ")].count("ins") == 2 + 10
    assert "-optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)" in "".join(read.text)
    assert "".join(read.text).count("applies it.") == 1  # not where the trial did not help


def test_first_are_causes_only(tried: Audit) -> None:
    shown = html.render(tried)
    first = shown[shown.index('id="first"') : shown.index('id="findings"')]
    assert re.findall(r'<a href="#([^"]+)"', first) == [tried.findings[i].id for i in (0, 3, 6)]


def test_a_traceback_names_files_as_places_do(crashed: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = f'Traceback (most recent call last):\n  File "{tmp_path}/src/train.py", line 3, in <module>\nKeyError: 1'
    crash = crashed.run.crash.model_copy(update={"traceback": told})
    shown = html.render(crashed.model_copy(update={"run": crashed.run.model_copy(update={"crash": crash})}))
    assert "File &#34;src/train.py&#34;, line 3" in shown
    assert str(tmp_path) not in shown


def test_equal_ids_become_different_anchors(faulty: Audit) -> None:
    twice = faulty.model_copy(update={"findings": (faulty.findings[3], faulty.findings[3])})
    anchors = [card.anchor for card in page.layout(twice).cards]
    assert len(set(anchors)) == 2


def test_a_thumbnail_that_is_no_picture_is_left_out(hostile: Audit) -> None:
    assert [pair.pictures for leak in pairs.leaks(hostile.evidence) for pair in leak.pairs] == [("", "")]


def test_painting_keeps_the_code() -> None:
    code = "    x = f'a # b' + 1_000 if None else 'it\\'s'  # why not"
    pieces = painted.painted(code)
    assert "".join(text for _, text in pieces) == code
    assert ("comment", "# why not") in pieces
    assert ("keyword", "None") in pieces


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("low", "high"), [(1, 2), (0.5, 3e7), (1e-12, 1e-11), (3, 3.0001), (1e250, 1e260), (5, 7)])
def test_ticks_lie_on_the_axis(low: float, high: float, log: bool) -> None:
    axis = scale.axis([low, high], log=log)
    assert axis
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 12
    assert all(-1 <= axis.at(tick) <= 101 for tick in ticks)


@pytest.mark.parametrize("value", [5e-324, 1e-310, 1e-290, 1e-289])
def test_an_axis_of_tiny_values_can_be_drawn(value: float) -> None:
    axis = scale.axis([value], log=True)
    assert axis is not None
    assert axis.low < axis.high
    assert axis.ticks() is not None
