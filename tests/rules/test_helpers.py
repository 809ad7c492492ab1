"""The modules that rules share, and the helper for authors of rules."""

from __future__ import annotations

import math
import sys

import pytest

from auditor import paired, series
from auditor.evidence import Nonfinite, PairedReplay, Run
from auditor.registry import UnknownRule, rules
from auditor.testing import absence, evidence, judge, place

rules()  # imports every module below auditor.rules
words = sys.modules["auditor.rules.words"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.791, "0.791"),
        (2.3, "2.3"),
        (1250.4, "1250"),
        (123456.0, "1.2e+05"),
        (0.00012, "0.00012"),
        (0, "0"),
        (math.nan, "NaN"),
        (-math.inf, "-infinity"),
    ],
)
def test_numbers(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.206, "20.6 %"), (1.0, "100 %"), (0.0, "0 %"), (0.0004, "0.04 %"), (0.99996, "99.996 %"), (math.nan, "NaN %")],
)
def test_percentages(share, text):
    assert words.percent(share) == text


def test_lists_and_plurals():
    assert [words.named("fc1"), words.named("0"), words.named("")] == ["fc1", "layer 0", "a layer"]
    assert words.listing([]) == ""
    assert words.listing(["a"]) == "a"
    assert words.listing(["a", "b", "c"]) == "a, b and c"
    assert words.listing(list("abcdefg"), most=2) == "a, b and 5 more"
    assert [words.count(1, "class"), words.count(2, "class"), words.count(0, "step")] == [
        "1 class",
        "2 classes",
        "0 steps",
    ]


def test_middle_survives_extremes():
    assert series.middle([1.7e308, 1.7e308]) == 1.7e308
    assert series.middle([math.nan, 3.0, math.inf]) == 3.0
    assert math.isnan(series.middle([]))


def test_a_passing_overflow_is_no_divergence():
    assert not series.diverged([1.0, math.inf, 1.0, 0.9, 0.8, 0.7])
    assert series.diverged([1.0, 1.0, math.nan])
    assert not series.diverged([])


def test_growth_has_an_interval():
    grown = series.growth([1.1**i for i in range(50)])
    assert grown.factor == pytest.approx(1.1**49)
    assert grown.low == pytest.approx(grown.high)
    flat = series.growth([1 + 0.5 * (-1) ** i for i in range(50)])
    assert flat.low <= 1 <= flat.high
    assert series.growth([1.0] * 7) is None
    assert series.growth([0.0, math.nan] * 20) is None
    assert series.growth([1.0001**i for i in range(5000)]).factor == pytest.approx(1.0001**4999, rel=1e-3)


def test_growth_of_any_size_stays_finite():
    assert math.isfinite(series.growth([10.0 ** (30 * i - 300) for i in range(21)]).factor)


def test_course_of_a_loss():
    course = series.course([2.0] * 10 + [1.0] * 20)
    assert (course.start, course.end, course.fall, course.rise) == (2.0, 1.0, 0.5, 0.5)
    assert series.course([1.0, math.nan]).rise == math.inf
    assert series.course([]).fall == 0.0
    assert series.course([0.0] * 9).fall == 0.0


def test_comparison_is_symmetric():
    low, high = tuple(1.0 + 0.01 * i for i in range(30)), tuple(2.0 + 0.02 * i for i in range(30))
    better = paired.compare(PairedReplay(start="initial", control=high, treated=low))
    worse = paired.compare(PairedReplay(start="initial", control=low, treated=high))
    assert better.gain == -worse.gain == pytest.approx(0.5)
    assert better.p_value < 0.01 < 0.9 < worse.p_value
    same = paired.compare(PairedReplay(start="initial", control=low, treated=low))
    assert (same.gain, same.p_value) == (0.0, 1.0)


def test_comparison_of_unequal_and_empty_arms():
    assert paired.compare(PairedReplay(start="initial", control=(1.0,) * 9, treated=(1.0,) * 4)).steps == 4
    assert paired.compare(PairedReplay(start="initial", control=(), treated=())).gain == 0.0
    early = paired.compare(PairedReplay(start="initial", control=(1.0, math.inf), treated=(*[1.0] * 3, *[0.5] * 27)))
    assert (early.steps, early.control_diverged, early.treated_diverged) == (30, True, False)
    assert early.treated_fall == pytest.approx(0.5, abs=0.1)


def test_evidence_is_built_from_parts():
    built = evidence(Nonfinite(steps_checked=3), absent={"labels": absence("not-applicable", "no labels")})
    assert built.nonfinite.steps_checked == 3
    assert built.absent["labels"].reason == "no labels"
    assert evidence(Run(target="x.py")).run.target == "x.py"
    with pytest.raises(TypeError, match="two parts"):
        evidence(Nonfinite(steps_checked=3), Nonfinite(steps_checked=4))
    with pytest.raises(TypeError, match="no part"):
        evidence(place())


def test_one_rule_is_judged():
    assert judge("GRD103", Nonfinite(steps_checked=3)).verdict.rule == "nonfinite-loss"
    assert judge(rules()[0]).verdict.outcome == "inconclusive"
    with pytest.raises(UnknownRule):
        judge("no-such-rule")
    with pytest.raises(LookupError, match="means"):
        judge("OPT1", limits=None) if len([r for r in rules() if r.code.startswith("OPT1")]) > 1 else judge("ALL")


@pytest.mark.parametrize(
    "sizes", [(1, 1, 2, 3, 3, 4), (-1, 1, 2, 2, -3, 4, 5), (-2, -2, -2, 1, 1, 1, 3), (1, 1, 1, 1, 1, 1)]
)
def test_the_p_value_of_equal_sizes_is_that_of_all_assignments_of_signs(sizes):
    from scipy.stats import wilcoxon

    control, treated = [10.0 + size for size in sizes], [10.0] * len(sizes)
    mine = paired.compare(PairedReplay(start="initial", control=control, treated=treated), whole=True)
    assert mine.p_value == pytest.approx(wilcoxon(sizes, alternative="greater").pvalue)
