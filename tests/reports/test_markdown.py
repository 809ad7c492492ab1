"""The pull request's report."""

from __future__ import annotations

import re
from html import unescape

import pytest
from auditor.reports import inert, markdown
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from syrupy.assertion import SnapshotAssertion

from auditor.result import Audit, Fix


def outside_code(page: str) -> str:
    """The page without fences and code spans, where hosts look for neither mentions nor links."""
    page = re.sub(r"(?ms)^(`{3,})[^\n]*\n.*?^\1$", "", page)
    return re.sub(r"`[^`\n]+`", "", page)


@pytest.mark.parametrize("name", ["faulty", "tried", "healthy", "crashed"])
def test_snapshot(audits: dict[str, Audit], name: str, snapshot: SnapshotAssertion) -> None:
    assert markdown.render(audits[name]) == snapshot


def test_nothing_pings_links_or_opens_html(audit: Audit) -> None:
    page = outside_code(markdown.render(audit))
    assert not re.search(r"@\w", page)
    assert "://" not in page
    tags = {tag.lower() for tag in re.findall(r"<(/?[a-zA-Z][^\s>]*)", page)}
    assert tags <= {"details", "/details", "summary", "/summary", "sub", "/sub", "code", "/code", "b", "/b"}
    assert page.count("<details>") == page.count("</details>")


def test_a_reader_sees_no_script_link_or_image(hostile: Audit) -> None:
    html = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(markdown.render(hostile))
    assert "<script" not in html
    assert "<img" not in html
    assert "<a " not in html
    assert "<h1" not in html


def test_every_row_of_the_table_has_six_cells(audit: Audit) -> None:
    rows = [row for row in markdown.render(audit).splitlines() if row.startswith("| ")]
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == 7, row


def test_findings_unfold(faulty: Audit) -> None:
    page = markdown.render(faulty)
    assert page.count("<details>") == 5 + 1 + 6
    assert "<summary>2 consequences: exploding-gradients and lr-too-high</summary>" in page
    assert "```diff\n" in page
    assert "> 26  optimizer.step()" in page


def test_a_diff_cannot_end_its_fence(tried: Audit) -> None:
    evil = Fix(
        text="Change it.",
        diff="@@ -1 +1 @@\n-a\n+```\n+````\n+<img src=x> @octocat",
        others=(tried.findings[0].fix.others),
    )
    page = markdown.render(tried.model_copy(update={"findings": (tried.findings[0].model_copy(update={"fix": evil}),)}))
    assert "`````diff\n" in page
    assert not re.search(r"@\w|<img", outside_code(page))


def test_a_long_report_is_cut_and_says_so(faulty: Audit) -> None:
    many = tuple(
        faulty.findings[0].model_copy(update={"rule": f"rule-{i}", "id": f"X-{i}", "detail": ("y" * 250,) * 8})
        for i in range(90)
    )
    page = markdown.render(faulty.model_copy(update={"findings": many}))
    assert len(page) <= markdown.LIMIT
    left_out = re.search(r"Left out here for want of room: (\d+) findings' details", page)
    assert left_out
    assert int(left_out[1]) + len(re.findall(r"<b>OPT101</b> rule-", page)) == 90
    assert page.count("<details>") == page.count("</details>")


def test_a_list_begins_below_its_label(faulty: Audit) -> None:
    finding = faulty.findings[0].model_copy(update={"doubt": "- one\n- two"})
    page = markdown.render(faulty.model_copy(update={"findings": (finding,)}))
    assert "**When this may be wrong.**\n\n- one\n\n- two" in page


def test_a_comment_fits_whatever_the_program_has(huge: Audit) -> None:
    page = markdown.render(huge)
    assert len(page) <= markdown.LIMIT
    page = outside_code(page)
    assert page.count("<details>") == page.count("</details>") >= 2
    assert "Left out here for want of room: " in page
    assert not re.search(r"@\w", page)


def test_rendering_is_deterministic(audit: Audit) -> None:
    assert markdown.render(audit) == markdown.render(audit)


@given(st.text(max_size=60))
def test_any_text_is_inert(text: str) -> None:
    shown = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render("x " + inert.inert(text))
    assert not re.search(r"<(?!/?p>)", shown)
    assert not re.search(r"@\w", shown)


# What GitHub and GitLab link in the text of a page, outside of code.
LINKED = re.compile(
    r"@[\w-]|#\d|\bGH-\d|\b[0-9a-f]{7,40}\b|\bhttps?://|\bftp://|\bwww\.|\bmailto:|(?<!\w)[!%]\d|&[\w]", re.IGNORECASE
)
PIECES = st.sampled_from(
    [
        *("@octocat", "@org/team", "#123", "GH-1", "gh-22", "octocat/repo#7", "a@b.example", "mailto:a@b.example"),
        *("!12", "%3", "&4", "0123abc4567", "DEADBEEF", "1234567", "a" * 40, "https://example.com/x", "http://a.b"),
        *("www.example.com", "FTP://x", "|", "||", "`", "``", "`@a`", "`a|b`", "\\", "\\|", "*", "**b**", "_i_"),
        *("[x](y)", "![i](y)", "<b>", "</td>", "<!--", "-->", "&lt;", "&#64;octocat", "$x$", "~~s~~", "- ", "1. "),
        *("> ", "# ", "\n", "\r\n", "\t", " ", "\x00", "\x1b[31m", "\u202e", "\u2066", "\ufeff", "\udc80", "word", "é"),
    ]
)
HOSTILE = st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=8).map("".join)


def seen(page: str) -> str:
    """The text that a reader of the rendered page sees outside of code."""
    shown = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(page)
    shown = re.sub(r"(?s)<(code|pre)\b.*?</\1>|<!--.*?-->", " ", shown)
    return unescape(re.sub(r"<[^>]*>", "", shown))


@given(HOSTILE)
def test_no_text_becomes_a_mention_a_reference_or_a_link(text: str) -> None:
    for made in (inert.inert(text), inert.sentence(text), inert.html(text)):
        page = "x " + made
        assert not LINKED.search(seen(page)), seen(page)


@given(HOSTILE)
def test_no_text_breaks_its_cell(text: str) -> None:
    for made in (inert.inert(text), inert.sentence(text), inert.ticked(text)):
        page = f"| a | b | c |\n|---|---|---|\n| 1 | {made} | 3 |"
        shown = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(page)
        assert shown.count("<td") == 3
        assert shown.rstrip().endswith("</tbody>\n</table>")
        assert not re.search(r"<(?!/?(table|thead|tbody|tr|th|td|code)\b)", shown), shown


@settings(max_examples=30)
@given(HOSTILE, st.sampled_from(["message", "where", "rule", "code"]))
def test_no_text_of_a_finding_pings_anybody(audits: dict[str, Audit], text: str, field: str) -> None:
    finding = audits["faulty"].findings[0].model_copy(update={field: text, "detail": (text,)})
    page = markdown.render(audits["healthy"].model_copy(update={"findings": (finding,)}))
    assert not LINKED.search(seen(page)), LINKED.findall(seen(page))
    assert page.count("<details>") == page.count("</details>")
    rows = [row for row in page.splitlines() if row.startswith(("| ✖", "| ⚠", "| •"))]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [7]
