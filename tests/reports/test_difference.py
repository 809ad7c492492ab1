"""What changed between two audits: matching, what cannot be told, and how it is shown."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from auditor.reports import difference_html, difference_json, difference_markdown, difference_text, markdown, text
from markdown_it import MarkdownIt
from rich.cells import cell_len

from auditor.compare import Difference, compare
from auditor.declare import Severity
from auditor.evidence import Location, Status
from auditor.result import Audit, Outcome, ReportedFinding, Suppressed, Tool

RENDERERS = (difference_text, difference_markdown, difference_html, difference_json)


def having(audit: Audit, *findings: ReportedFinding, **more: object) -> Audit:
    return audit.model_copy(update={"findings": findings, "suppressed": (), **more})


def passing(audit: Audit, outcome: str = "pass", reason: str = "") -> Audit:
    """The same rules, and no findings."""
    verdicts = tuple(each.model_copy(update={"outcome": Outcome(outcome), "reason": reason}) for each in audit.verdicts)
    return having(audit, verdicts=verdicts)


def names(findings: tuple[ReportedFinding, ...]) -> list[str]:
    return [finding.rule for finding in findings]


# ------------------------------------------------------------------------------------------------------- matching


def test_an_audit_does_not_differ_from_itself(audit: Audit) -> None:
    found = compare(audit, Audit.model_validate_json(audit.to_json()))
    assert (found.appeared, found.fixed, found.changed, found.undecided) == ((), (), (), ())
    assert len(found.unchanged) == len(audit.findings)
    assert found.cautions == ()
    assert not found.fails(Severity.NOTE)


def test_new_and_fixed(faulty: Audit) -> None:
    zero, explode, *rest = faulty.findings
    old, new = having(faulty, zero, *rest), having(faulty, explode, *rest, verdicts=passing(faulty).verdicts)
    found = compare(old, new)
    assert names(found.appeared) == ["exploding-gradients"]
    assert names(found.fixed) == ["missing-zero-grad"]
    assert names(found.unchanged) == [finding.rule for finding in rest]


def test_a_finding_that_moved_is_the_same(faulty: Audit) -> None:
    zero = faulty.findings[0]
    moved = zero.model_copy(update={"location": Location(file="train.py", line=80)})
    renamed = zero.model_copy(update={"location": Location(file="fit.py", line=80)})
    assert names(compare(having(faulty, zero), having(faulty, moved)).unchanged) == ["missing-zero-grad"]
    assert names(compare(having(faulty, zero), having(faulty, renamed)).unchanged) == ["missing-zero-grad"]


def test_of_two_alike_the_one_in_the_same_file_is_the_same(faulty: Audit) -> None:
    here = faulty.findings[0]
    there = here.model_copy(update={"location": Location(file="other.py", line=1), "message": "there"})
    found = compare(having(faulty, here, there), having(faulty, there))
    assert [finding.message for finding in found.unchanged] == ["there"]
    assert len(found.fixed) == 1


def test_audits_of_two_machines(faulty: Audit) -> None:
    zero = faulty.findings[0]
    one = having(faulty, zero.model_copy(update={"location": Location(file="/home/a/p/train.py", line=26)}))
    other = having(faulty, zero.model_copy(update={"location": Location(file="/builds/7/p/train.py", line=27)}))
    assert len(compare(one, other).unchanged) == 1


def test_changed_figures_and_severities(faulty: Audit) -> None:
    zero, _, rate, *_ = faulty.findings
    figures = zero.model_copy(update={"message": "58 of 60 steps", "measured": 0.967})
    worse = rate.model_copy(update={"severity": Severity.ERROR})
    found = compare(having(faulty, zero, rate), having(faulty, figures, worse))
    assert [(change.before.rule, change.worse) for change in found.changed] == [
        ("missing-zero-grad", False), ("lr-too-high", True),
    ]  # fmt: skip
    shown = difference_text.render(found, width=100)
    assert "measured 0.983 before" in shown
    assert "warning before" in shown
    assert found.fails(Severity.ERROR)
    better = compare(having(faulty, worse), having(faulty, rate))
    assert not better.fails(Severity.NOTE)


@pytest.mark.parametrize(
    ("threshold", "fails"), [(Severity.ERROR, False), (Severity.WARNING, True), (Severity.NOTE, True), (None, False)]
)
def test_what_is_new_fails_at_its_severity(faulty: Audit, threshold: Severity | None, fails: bool) -> None:
    dead = faulty.findings[4]
    assert compare(having(faulty), having(faulty, dead)).fails(threshold) is fails


# ------------------------------------------------------------------------------------------ what cannot be told


@pytest.mark.parametrize("outcome", ["pass", "not-applicable"])
def test_fixed_is_what_was_judged_again(faulty: Audit, outcome: str) -> None:
    found = compare(faulty, passing(faulty, outcome))
    assert len(found.fixed) == len(faulty.findings)
    assert found.undecided == ()


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [("inconclusive", "its rule was inconclusive: too short"), ("error", "its rule was broken: too short")],
)
def test_what_was_not_decided_is_not_fixed(faulty: Audit, outcome: str, reason: str) -> None:
    found = compare(faulty, passing(faulty, outcome, "too short"))
    assert found.fixed == ()
    assert {gone.reason for gone in found.undecided} == {reason}


def test_what_was_not_judged_or_is_suppressed_is_not_fixed(faulty: Audit) -> None:
    zero = faulty.findings[0]
    (gone,) = compare(having(faulty, zero), having(faulty, verdicts=())).undecided
    assert gone.reason == "its rule was not judged"
    waived = having(faulty).model_copy(update={"suppressed": (Suppressed(finding=zero, by="comment"),)})
    (gone,) = compare(having(faulty, zero), waived).undecided
    assert gone.reason == "it is suppressed now"


def test_other_circumstances_are_said(faulty: Audit) -> None:
    run = faulty.run.model_copy(
        update={"args": ("--lr", "1"), "steps": 9, "device": "cuda", "torch": "2.14", "seed": None,
                "status": Status.TIMEOUT, "target": "/elsewhere/fit.py"}
    )  # fmt: skip
    verdicts = tuple(
        each.model_copy(update={"limit": 0.75}) if each.code == "ACT101" else each for each in faulty.verdicts[1:]
    )
    other = faulty.model_copy(update={"run": run, "verdicts": verdicts, "tool": Tool(version="9.0")})
    assert compare(faulty, other).cautions == (
        "another version of the tool: training-auditor 0.1.0 before, training-auditor 9.0 now",
        "another script: train.py before, fit.py now",
        "other arguments: --epochs 10 before, --lr 1 now",
        "another ending: completed before, timeout now",
        "another number of steps: 60 before, 9 now",
        "another device: cpu before, cuda now",
        "another torch: 2.13.0 before, 2.14 now",
        "another seed: 0 before, none now",
        "not judged any more: OPT101",
        "other limits of ACT101",
    )


# -------------------------------------------------------------------------------------------------------- showing


@pytest.fixture
def differences(audits: dict[str, Audit]) -> list[Difference]:
    made = [audits[name] for name in ("faulty", "healthy", "crashed", "hostile")]
    return [compare(old, new) for old in made for new in made]


@pytest.mark.parametrize("module", RENDERERS, ids=lambda module: module.COMPARES)
def test_every_format_is_deterministic_and_harmless(differences: list[Difference], module: object) -> None:
    for found in differences:
        shown = module.render(found)  # type: ignore[attr-defined]
        assert shown == module.render(found)  # type: ignore[attr-defined]
        if module is difference_json:  # as it is, for programs
            continue
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)


def test_text_keeps_its_width(differences: list[Difference]) -> None:
    for found in differences:
        assert max(cell_len(line) for line in difference_text.render(found, width=60).splitlines()) <= 60
        assert difference_text.render(found, width=60, unicode=False).isascii()
        assert "\x1b" not in difference_text.render(found)


def test_markdown_pings_nobody_and_keeps_its_tables(differences: list[Difference]) -> None:
    for found in differences:
        page = difference_markdown.render(found)
        assert len(page) <= difference_markdown.LIMIT
        rows = [row for row in page.splitlines() if row.startswith("| ")]
        assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
        plain = re.sub(r"`[^`\n]+`", "", page)
        assert not re.search(r"@\w|://|(?<!&)#\d", plain)
        shown = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(page)
        assert not re.search(r"<(script|img|a|svg)\b", shown)


class Page(HTMLParser):
    """Tags of a page, and attributes that act."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.acting: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.acting += [name for name, _ in attrs if name.startswith("on") or name in {"href", "src", "style"}]


def test_the_page_has_no_script_and_no_request(differences: list[Difference]) -> None:
    for found in differences:
        page = Page(difference_html.render(found))
        assert not page.tags & {"script", "img", "iframe", "form", "a", "svg", "link"}
        assert page.acting == []


def test_a_comparison_of_huge_audits_stays_small(huge: Audit, healthy: Audit) -> None:
    found = compare(healthy, huge)
    assert len(difference_markdown.render(found)) <= difference_markdown.LIMIT
    assert len(difference_html.render(found).encode()) < 2_000_000
    assert len(difference_text.render(found)) < 200_000


def test_json_holds_everything(faulty: Audit, healthy: Audit) -> None:
    data = json.loads(difference_json.render(compare(healthy, faulty)))
    assert [each["rule"] for each in data["appeared"]] == [each.rule for each in faulty.findings]
    assert data["new"]["summary"]["errors"] == 3


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("faulty", "faulty", "✔ Nothing new, 0 fixed, 7 as before."),
        ("healthy", "faulty", "✖ 7 new findings (3 errors), 0 fixed, 0 as before."),
        ("faulty", "healthy", "✔ Nothing new, 2 fixed, 0 as before, 5 open."),
    ],
)
def test_the_first_line_says_it(audits: dict[str, Audit], old: str, new: str, sentence: str) -> None:
    assert difference_text.render(compare(audits[old], audits[new])).splitlines()[0] == sentence


# ------------------------------------------------------------------------------------------- a report's baseline


def test_a_report_marks_what_is_new(faulty: Audit) -> None:
    zero, explode, *rest = faulty.findings
    other = explode.model_copy(update={"message": "The gradient norm grew 2-fold."})
    gone = zero.model_copy(update={"id": "REP101-0", "code": "LOS101", "rule": "double-softmax", "message": "Twice."})
    old = having(faulty, other, gone, *rest)
    page = markdown.render(faulty, difference=compare(old, faulty))
    assert "**OPT101** missing-zero-grad · **new** |" in page
    assert "**GRD101** exploding-gradients · changed |" in page
    assert page.count("· **new**") == 1
    assert "Against the baseline: 1 new finding (1 error), 1 fixed, 1 changed, 5 as before." in page
    assert "<summary>Fixed (1)</summary>" in page
    assert "against the baseline 1 new finding (1 error)" in text.render(faulty, difference=compare(old, faulty))
    assert "baseline" not in markdown.render(faulty)


def test_rows_keep_their_cells_with_a_baseline(audit: Audit, healthy: Audit) -> None:
    page = markdown.render(audit, difference=compare(healthy, audit))
    assert len(page) <= markdown.LIMIT
    rows = [row for row in page.splitlines() if row.startswith(("| ✖", "| ⚠", "| •"))]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {7}
