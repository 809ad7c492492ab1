"""Causes before consequences: what the rules say, when it began, where it is, and what came of the trials."""

from __future__ import annotations

from auditor.declare import Confidence, Severity
from auditor.diagnosis import diagnose
from auditor.evidence import Evidence, Layer, Model, Program, Run
from auditor.result import Fix, ReportedFinding, Trial

EXPLAINS = {
    "lr-too-high": ("exploding", "dead-units", "plateau"),
    "exploding": ("nonfinite", "dead-units"),
    "dead-units": ("plateau",),
    "zero-grad": ("exploding", "plateau"),
    "loop-a": ("loop-b",),
    "loop-b": ("loop-a",),
}


def finding(rule: str, code: str = "", family: str = "learning", helped: bool | None = None, **more: object):
    trial = None if helped is None else Trial(steps=60, before=1.0, after=0.2 if helped else 1.1, helped=helped)
    given = {"severity": Severity.ERROR, "confidence": Confidence.CONFIRMED, "message": rule, **more}
    return ReportedFinding(
        id=rule, rule=rule, code=code or rule.upper(), family=family, fix=Fix(text="", trial=trial), **given
    )


def order(*findings: ReportedFinding, program: Program | None = None) -> list[tuple[str, str | None]]:
    evidence = Evidence(run=Run(target="train.py"), program=program)
    return [(each.rule, each.caused_by) for each in diagnose(findings, EXPLAINS, evidence)]


def test_a_chain_hangs_below_its_root():
    found = order(finding("plateau"), finding("dead-units"), finding("exploding"), finding("lr-too-high"))
    assert found[0] == ("lr-too-high", None)
    assert dict(found)["plateau"] in ("dead-units", "lr-too-high")
    assert all(cause is not None for _, cause in found[1:])


def test_two_independent_faults_stay_two_causes():
    found = dict(order(finding("zero-grad"), finding("leak", family="leakage"), finding("plateau")))
    assert found == {"zero-grad": None, "leak": None, "plateau": "zero-grad"}


def test_three_faults_at_once_keep_their_own_consequences():
    found = dict(
        order(finding("zero-grad"), finding("exploding"), finding("leak"), finding("softmax"), finding("nonfinite"))
    )
    assert found == {
        "zero-grad": None,
        "exploding": "zero-grad",
        "nonfinite": "exploding",
        "leak": None,
        "softmax": None,
    }


def test_what_was_there_first_is_no_consequence_of_what_came_later():
    late = finding("lr-too-high", since=20)
    assert dict(order(late, finding("exploding", since=5)))["exploding"] is None
    assert dict(order(late, finding("exploding", since=30)))["exploding"] == "lr-too-high"
    assert dict(order(late, finding("exploding")))["exploding"] == "lr-too-high"


def test_what_is_built_in_was_there_from_the_start():
    """An initial weight is no consequence of the loop."""
    built_in = finding("exploding", family="init")
    assert dict(order(finding("lr-too-high", since=3), built_in))["exploding"] is None


def test_of_two_causes_the_one_whose_remedy_helped_comes_first_and_takes_the_consequence():
    failed, helped = finding("zero-grad", "A1", helped=False), finding("lr-too-high", "Z9", helped=True)
    found = order(failed, helped, finding("plateau"))
    assert found == [("lr-too-high", None), ("plateau", "lr-too-high"), ("zero-grad", None)]


def test_a_fix_that_was_not_tried_stands_between_one_that_helped_and_one_that_did_not():
    found = order(finding("a", helped=False), finding("b"), finding("c", helped=True))
    assert [rule for rule, _ in found] == ["c", "b", "a"]


def test_what_its_own_remedy_cures_does_not_follow_from_a_weak_suspicion():
    suspicion = finding("lr-too-high", severity=Severity.WARNING, confidence=Confidence.SUSPECTED)
    assert dict(order(suspicion, finding("dead-units", helped=True)))["dead-units"] is None
    assert dict(order(suspicion, finding("dead-units", helped=False)))["dead-units"] == "lr-too-high"
    proved = finding("lr-too-high")
    assert dict(order(proved, finding("dead-units", helped=True)))["dead-units"] == "lr-too-high"


def test_of_equals_the_one_nearest_to_the_input_comes_first():
    layers = tuple(Layer(name=name, kind="Linear") for name in ("first", "second"))
    program = Program(models=(Model(name="Net", kind="Net", parameters=1, trainable=1, layers=layers),), loop="loader")
    found = order(finding("b", where="first"), finding("a", where="second"), program=program)
    assert [rule for rule, _ in found] == ["b", "a"]


def test_rules_that_explain_each_other_do_not_go_round_in_circles():
    found = order(finding("loop-a"), finding("loop-b"))
    assert found == [("loop-a", None), ("loop-b", "loop-a")]


def test_nothing_is_lost_or_doubled():
    given = [
        finding("dead-units", where="one"),
        finding("dead-units", where="two"),
        finding("lr-too-high"),
        finding("x"),
    ]
    assert sorted(rule for rule, _ in order(*given)) == sorted(each.rule for each in given)
