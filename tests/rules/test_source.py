"""The rules that need nothing but the source, and may look at the run where there was one."""

from __future__ import annotations

import pytest

from auditor.evidence import (
    Accumulator,
    ClassFill,
    CopiedTargets,
    FutureFilter,
    Loader,
    Mention,
    OwnTrainMethod,
    Program,
    Seeding,
    Source,
    SourceFile,
    WholeFit,
)
from auditor.testing import judge, place

FILES = (SourceFile(path="train.py", lines=80),)
METHOD = OwnTrainMethod(owner="Net", name="train", signature="(self, x, y)", location=place(12))
FIT = WholeFit(what="x.mean", data="x", location=place(8), split="random_split", split_location=place(9))


def read(**facts):
    return Source(files=FILES, **facts)


def program(training=3200, held_out=800, kinds=("Net", "Linear")):
    loaders = (Loader(name="a", role="training", samples=training), Loader(name="b", role="held-out", samples=held_out))
    return Program(loop="loader", loaders=loaders, module_kinds=kinds)


def test_a_hidden_train_method_fails_at_its_line():
    answer = judge("shadowed-train-method", read(train_methods=(METHOD,)))
    (finding,) = answer.findings
    assert finding.location.line == 12
    assert "Net.train(self, x, y)" in finding.message
    assert finding.confidence == "confirmed"


@pytest.mark.parametrize(("kinds", "outcome"), [(("Net", "Linear"), "fail"), (("Other",), "pass"), ((), "fail")])
def test_a_class_that_was_not_trained_is_left_out(kinds, outcome):
    assert (
        judge("shadowed-train-method", read(train_methods=(METHOD,)), program(kinds=kinds)).verdict.outcome == outcome
    )


@pytest.mark.parametrize("rule", ["shadowed-train-method", "accumulating-metric", "preprocessing-leakage"])
def test_without_a_readable_source_there_is_nothing_to_say(rule):
    broken = Source(files=(SourceFile(path="train.py", lines=0, problem="line 3: invalid syntax"),))
    assert judge(rule, broken).verdict.outcome == "not-applicable"
    assert judge(rule, read()).verdict.outcome == "pass"


def test_a_sum_that_goes_on_fails():
    found = Accumulator(name="total", divisor="len(loader)", location=place(20), started=place(14), used=place(22))
    (finding,) = judge("accumulating-metric", read(accumulators=(found,))).findings
    assert finding.location.line == 20
    assert "line 14" in finding.detail[0]
    (finding,) = judge(
        "accumulating-metric", read(accumulators=(found.model_copy(update={"together": True}),))
    ).findings
    assert "mean over ten epochs" in finding.message
    lasting = found.model_copy(update={"lasting": True})
    (finding,) = judge("accumulating-metric", read(accumulators=(lasting,))).findings
    assert "lives on from call to call" in finding.message
    assert "in the function" in finding.fix


@pytest.mark.parametrize(
    ("sizes", "supervised", "severity"),
    [
        (None, False, None),
        ((3200, 800), False, "note"),
        ((60, 40), False, None),
        ((3200, 800), True, None),
    ],
)
def test_statistics_of_many_rows_leak_little(sizes, supervised, severity):
    parts = [read(whole_fits=(FIT.model_copy(update={"supervised": supervised}),))]
    parts += [program(*sizes)] if sizes else []
    (finding,) = judge("preprocessing-leakage", *parts).findings
    assert finding.severity == severity
    assert finding.confidence == ("confirmed" if supervised else "suspected")
    assert finding.location.line == 8


def test_gaps_filled_by_class():
    fill = ClassFill(column=3, classes=5, rows=276, filled=139, location=place(44))
    (finding,) = judge("preprocessing-leakage", read(), CopiedTargets(samples=276, fills=(fill,))).findings
    assert (finding.severity, finding.confidence, finding.location.line) == (None, "confirmed", 44)
    assert "column 3 of the input were filled" in finding.message
    assert judge("preprocessing-leakage", read(), CopiedTargets(samples=276)).verdict.outcome == "pass"


def test_the_share_that_counts_is_a_limit():
    parts = read(whole_fits=(FIT,)), program()
    assert judge("preprocessing-leakage", *parts, limits={"max-shift": 0.001}).findings[0].severity is None


def test_windows_of_a_series_smoothed_with_its_future():
    seen = FutureFilter(what="savgol_filter", data="level", location=place(8), target_location=place(12))
    (finding,) = judge("preprocessing-leakage", read(future_filters=(seen,))).findings
    assert (finding.severity, finding.where, finding.location.line) == (None, "level", 8)
    assert "savgol_filter smooths level" in finding.message
    assert "line 12" in finding.detail[0]


def test_generators_without_a_seed_are_named():
    (finding,) = judge("unseeded", Seeding(drawn=("torch", "numpy"), unseeded=("numpy",))).findings
    assert "numpy.random.seed(0)" in finding.fix
    assert "torch" not in finding.message
    assert finding.confidence == "confirmed"


def test_what_was_observed_overrules_what_was_read():
    backward = Mention(kind="backward", location=place(30))
    assert judge("unseeded", read(mentions=(backward,))).verdict.outcome == "fail"
    assert (
        judge("unseeded", read(mentions=(backward,)), Seeding(drawn=("torch",), unseeded=())).verdict.outcome == "pass"
    )


def test_seeds_of_the_source_count_without_a_run():
    mentions = (Mention(kind="backward", location=place(30)), Mention(kind="seed", location=place(3)))
    assert judge("unseeded", read(mentions=mentions)).verdict.outcome == "pass"


@pytest.mark.parametrize(
    "parts", [(), (Source(files=FILES),), (Seeding(drawn=("torch",), unseeded=("torch",), by_audit=True),)]
)
def test_unseeded_does_not_apply(parts):
    assert judge("unseeded", *parts).verdict.outcome == "not-applicable"
