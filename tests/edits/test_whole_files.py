"""What holds for all edits: the result parses, the rest of the file stays, and a diff leads to the same text."""

from __future__ import annotations

import ast

import pytest
from edit_samples import KINDS, SCRIPT, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.edits import NoEdit, diffs, edited, registry
from auditor.edits.changes import Change, apply
from auditor.edits.parsed import Parsed
from auditor.evidence import Location, Remedy, RemedyKind


@st.composite
def styles(draw: st.DrawFn) -> str:
    """The same script as other people write it."""
    text = SCRIPT.lstrip("\n")
    for _ in range(draw(st.integers(0, 3))):  # comments and empty lines anywhere but inside the long string
        rows = text.split("\n")
        place = draw(st.integers(1, len(rows) - 1))
        text = "\n".join([*rows[:place], draw(st.sampled_from(["", "# ---- ü", "    # one more"])), *rows[place:]])
    text = text.replace("    ", draw(st.sampled_from(["    ", "\t", "  "])))
    if draw(st.booleans()):
        text = text.rstrip("\n")
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


@settings(max_examples=40, deadline=None)
@given(text=styles(), kinds=st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=4, unique=True))
def test_edits_of_any_style(text: str, kinds: list[RemedyKind]) -> None:
    remedies = [sample(kind, text) for kind in kinds]
    after = edited(remedies, text)
    ast.parse(after)
    assert ("\r\n" in after) == ("\r\n" in text)
    assert "\n" not in after.replace("\r\n", "") or "\r\n" not in text
    assert after.endswith("\n") == text.endswith("\n")
    (file,) = diffs.parse(diffs.unified("train.py", text, after))
    assert apply(text, diffs.changes(file, text)) == after


@settings(max_examples=30, deadline=None)
@given(text=styles(), kind=st.sampled_from(sorted(set(KINDS) - {RemedyKind.RATE})))
def test_an_edit_is_made_once(text: str, kind: RemedyKind) -> None:
    """At the site where it was made, wherever that is now, it is refused or changes nothing."""
    after = edited([sample(kind, text)], text)
    source = Parsed(after)
    for line in range(1, len(diffs.split(after)) + 1):
        site = Location(file="/home/user/train.py", line=line)
        try:
            again = registry.changes(source, sample(kind, text).model_copy(update={"site": site}))
        except NoEdit:
            continue
        assert apply(after, again) == after


@settings(max_examples=30, deadline=None)
@given(text=styles(), kinds=st.lists(st.sampled_from(list(KINDS)), min_size=2, max_size=5, unique=True))
def test_diffs_of_one_audit_add_up(text: str, kinds: list[RemedyKind]) -> None:
    """Each was made of the same text; applied together they are what one edit of all would be."""
    changes: list[Change] = []
    for kind in kinds:
        (file,) = diffs.parse(diffs.unified("train.py", text, edited([sample(kind, text)], text)))
        changes += diffs.changes(file, text)
    assert apply(text, changes) == edited([sample(kind, text) for kind in kinds], text)


def texts(*rows: str) -> st.SearchStrategy[str]:
    """Some lines, the last of them not empty and without a break."""
    return st.tuples(st.lists(st.sampled_from(["", *rows])), st.sampled_from(rows)).map(
        lambda drawn: "\n".join([*drawn[0], drawn[1]])
    )


@settings(max_examples=200, deadline=None)
@given(before=texts("a", "b = 1e-3", "c"), after=texts("a", "b = 1e-4", "c"))
def test_any_diff_can_be_applied(before: str, after: str) -> None:
    """But for the break at the very end, which diffs do not hold."""
    for file in diffs.parse(diffs.unified("train.py", before, after)):
        assert diffs.split(apply(before, diffs.changes(file, before))) == diffs.split(after)


def test_a_diff_of_another_text_is_refused() -> None:
    (file,) = diffs.parse(diffs.unified("train.py", "a\nb\nc\n", "a\nB\nc\n"))
    for text in ("a\nB\nc\n", "b\nc\n", "", "a\nb\nd\n"):
        with pytest.raises(diffs.Mismatch):
            diffs.changes(file, text)


@pytest.mark.parametrize("diff", ["nonsense", "--- a/x\n+++ b/y\n", "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n"])
def test_a_damaged_diff_is_refused(diff: str) -> None:
    with pytest.raises(diffs.Mismatch):
        diffs.parse(diff)


def test_two_rates_do_not_mix() -> None:
    """0.001 to 0.0001 and to 0.00025 each add digits in other places of one number."""
    text = "lr = 0.001\n"
    first, second = (
        diffs.changes(diffs.parse(diffs.unified("t.py", text, f"lr = {rate}\n"))[0], text)
        for rate in ("0.0001", "0.00025")
    )
    with pytest.raises(NoEdit):
        apply(text, [*first, *second])


@pytest.mark.parametrize("text", ["def f(:\n", "x = 1\n" * 2 + "  y", "\x00"])
def test_what_is_no_python_is_refused(text: str) -> None:
    with pytest.raises(NoEdit):
        edited([Remedy(kind=RemedyKind.SHUFFLE, site=Location(file="/t.py", line=1))], text)


def test_a_remedy_without_a_site_is_refused() -> None:
    with pytest.raises(NoEdit, match="is not known"):
        edited([Remedy(kind=RemedyKind.SHUFFLE)], "x = 1\n")
