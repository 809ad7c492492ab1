"""Numbers, sparklines and neutral text."""

from __future__ import annotations

import math
import unicodedata

import pytest
from auditor.reports import clean, story, words
from hypothesis import given
from hypothesis import strategies as st

from auditor.evidence import Run, Status
from auditor.result import Audit
from auditor.untrusted import LONGEST_KEPT, UNSAFE, shortened, storable


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (0.0, "0"), (-0.0, "0"), (1.0, "1"), (0.42137, "0.4214"), (20.9, "20.9"), (1234.5, "1,234"),
        (9999.0, "9999"), (12_345.0, "12,345"), (3.2e-5, "3.2e-5"), (1e-300, "1e-300"), (2.5e9, "2.5e9"),
        (math.nan, "NaN"), (math.inf, "∞"), (-math.inf, "-∞"),
    ],
)  # fmt: skip
def test_number(value: float | None, shown: str) -> None:
    assert words.number(value) == shown


@given(st.floats())
def test_number_is_short(value: float) -> None:
    assert len(words.number(value)) <= 12


@pytest.mark.parametrize(("share", "shown"), [(0, "0 %"), (1, "100 %"), (1e-9, "< 0.1 %"), (0.9999, "> 99.9 %")])
def test_percent_never_rounds_to_an_end(share: float, shown: str) -> None:
    assert words.percent(share) == shown


@given(st.lists(st.floats(), max_size=200), st.booleans())
def test_sparkline_never_fails_and_never_overflows(values: list[float], unicode: bool) -> None:
    line = words.sparkline(values, unicode=unicode)
    assert len(line) <= 24
    assert unicode or line.isascii()
    assert bool(line) or not any(math.isfinite(value) for value in values) or len(values) > 24


def test_sparkline_marks_what_is_not_finite() -> None:
    assert words.sparkline([1, math.nan, 2]) == "▁×█"


@given(st.text())
def test_neutral_text_has_nothing_that_acts(text: str) -> None:
    assert not any(unicodedata.category(c) in UNSAFE for c in clean.line(text))
    clean.line(text).encode("utf-8")
    assert len(clean.line(text, 50)) <= 50
    assert clean.ascii_only(clean.line(text)).isascii()


def test_escapes_stay_readable() -> None:
    assert clean.line("a\x1b[31mred\u202e") == "a\\x1b[31mred\\u202e"


def test_the_middle_is_left_out() -> None:
    assert shortened("encoder.blocks.11.attention.query", 15) == "encoder….query"[:8] + shortened("n.query", 7)
    assert len(shortened("x" * 1000, 15)) == 15


@given(st.text(max_size=200), st.integers(1, 120))
def test_a_shortened_text_keeps_its_limit(text: str, limit: int) -> None:
    assert len(shortened(text, limit)) <= limit
    assert shortened(text, max(limit, len(text))) == text


@pytest.mark.parametrize("length", [100, 3_000, 1_000_000])
def test_a_long_name_says_how_long_it_is(length: int) -> None:
    shown = clean.name("Net" * (length // 3) + "." * (length % 3))
    assert len(shown) <= clean.LONGEST_NAME
    assert f"…({length:,} characters)…" in shown
    assert shown.startswith("NetNet")


@given(st.text())
def test_a_storable_text_is_utf8_and_short(text: str) -> None:
    kept = storable(text + "\udcff")
    assert kept.encode("utf-8").endswith(b"\\udcff")
    assert storable(kept) == kept
    assert len(storable("\ud800" * 40_000)) <= LONGEST_KEPT


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (Status.TIMEOUT, "Inconclusive: the time was up after 7 steps."),
        (Status.INTERRUPTED, "Inconclusive: the run was interrupted after 7 steps."),
        (Status.NOTHING_TO_AUDIT, "Inconclusive: no training step was seen, so there was nothing to audit."),
        (Status.SCRIPT_FAILED, "Inconclusive: the script failed after 7 steps."),
    ],
)
def test_a_run_that_did_not_end_is_inconclusive(healthy: Audit, status: Status, sentence: str) -> None:
    run = Run(target="train.py", status=status, steps=7)
    audit = healthy.model_copy(update={"run": run, "evidence": healthy.evidence.model_copy(update={"run": run})})
    assert story.conclusion(audit).sentence == sentence


def test_verdicts(faulty: Audit, healthy: Audit, crashed: Audit) -> None:
    assert story.conclusion(faulty).sentence == "Not ready: 2 faults (3 errors) would waste this run."
    assert story.conclusion(healthy).sentence == "Ready: nothing found in 60 steps and 2 experiments."
    assert "RuntimeError before its first step" in story.conclusion(crashed).sentence


def test_a_clean_verdict_names_what_stayed_open(healthy: Audit) -> None:
    audit = healthy.model_copy(update={"summary": healthy.summary.model_copy(update={"inconclusive": 2})})
    sentence = "Ready: nothing found in 60 steps and 2 experiments (2 rules undecided)."
    assert story.conclusion(audit).sentence == sentence


def test_nothing_decided_is_not_ready(healthy: Audit) -> None:
    audit = healthy.model_copy(update={"verdicts": (), "summary": type(healthy.summary)()})
    assert story.conclusion(audit).kind == "inconclusive"


def test_consequences_are_folded_below_their_cause(faulty: Audit) -> None:
    groups = story.groups(faulty)
    assert [group.cause.code for group in groups] == ["OPT101", "LEK101", "ACT101", "DAT201", "FIT101"]
    assert [finding.code for finding in groups[0].consequences] == ["GRD101", "FIT102"]


def test_a_consequence_without_its_cause_stands_alone(faulty: Audit) -> None:
    alone = faulty.model_copy(update={"findings": faulty.findings[1:2]})
    assert [group.cause.code for group in story.groups(alone)] == ["GRD101"]


@given(st.text())
def test_blocks_take_any_text(text: str) -> None:
    for block in story.blocks(text):
        assert block.text.strip() or block.code


@pytest.mark.parametrize(
    ("text", "shown"),
    [("split *before* it", "split before it"), ("**all** of `a * b`", "all of `a * b`"), ("2 * 3 * 4", "2 * 3 * 4")],
)
def test_emphasis_is_dropped_where_it_cannot_be_set(text: str, shown: str) -> None:
    assert story.unemphasised(text) == shown


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        ("identity", "confirmed by an identity"),
        ("experiment", "confirmed by an experiment"),
        ("trial", "confirmed by its fix"),
        ("", "confirmed"),
    ],
)
def test_how_sure_says_what_proves_it(faulty: Audit, proof: str, words: str) -> None:
    finding = faulty.findings[0].model_copy(update={"proof": proof, "confidence": "confirmed"})
    assert story.sure(finding) == words
