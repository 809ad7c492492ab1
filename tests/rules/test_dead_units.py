"""ACT101 dead-units."""

from __future__ import annotations

import pytest

from auditor.evidence import Activations, UnitActivity
from auditor.testing import judge, place


def units(name="fc2", dead=60, start=60, end=60, samples=3840, batches=12, active=0.05, **changes):
    given = {"units": 64, "location": place(31), "rectifier": "relu"}
    return UnitActivity(
        name=name,
        dead=dead,
        dead_start=start,
        dead_end=end,
        samples=samples,
        batches=batches,
        active_share=active,
        **{**given, **changes},
    )


def dead(*layers):
    return judge("dead-units", Activations(steps=tuple(range(0, 60, 5)), layers=layers))


def test_most_of_a_layer_dead_is_a_confirmed_error():
    (finding,) = dead(units(), units("fc1", dead=0, start=3, end=0)).findings
    assert finding.severity is None  # the rule's own: error
    assert finding.confidence == "confirmed"
    assert finding.where == "fc2"
    assert finding.location.line == 31
    assert "60 of the 64 units" in finding.message
    assert "3840 samples" in finding.message


def test_sparse_but_living_layers_pass():
    # A trained transformer: 3 % of the outputs above 0, every unit fires for some sample.
    answer = dead(units(dead=0, start=20, end=2, active=0.03))
    assert answer.verdict.outcome == "pass"
    assert answer.verdict.measured == 0.0


def test_some_units_off_from_the_start_pass():
    assert dead(units(dead=20, start=24, end=22)).verdict.outcome == "pass"


def test_dying_units_are_noted():
    (finding,) = dead(units(dead=2, start=4, end=24)).findings
    assert finding.severity == "note"
    assert finding.confidence == "suspected"
    assert "die during training" in finding.message


def test_a_layer_that_died_is_an_error():
    (finding,) = dead(units(dead=2, start=4, end=60)).findings
    assert finding.severity is None
    assert finding.confidence == "confirmed"
    assert "last 1280 samples" in finding.message


def test_death_is_not_told_from_few_late_samples():
    assert dead(units(dead=2, start=4, end=60, samples=768)).verdict.outcome == "pass"
    assert dead(units(dead=2, start=4, end=60, batches=6)).verdict.outcome == "pass"


def test_tiny_layers_need_all_units_dead():
    assert dead(units(units=4, dead=3, start=3, end=3)).verdict.outcome == "pass"
    assert dead(units(units=2, dead=2, start=2, end=2)).verdict.outcome == "fail"


@pytest.mark.parametrize("changes", [{"samples": 511}, {"batches": 2}])
def test_too_few_samples_are_inconclusive(changes):
    answer = dead(units(**changes))
    assert answer.verdict.outcome == "inconclusive"
    assert "512 samples from 3 batches" in answer.verdict.reason


def test_rarely_routed_experts_are_left_out():
    assert dead(units("expert3", samples=90), units("expert0", dead=0, start=0, end=0)).verdict.outcome == "pass"


def test_without_rectifiers_there_is_nothing_to_judge():
    assert dead().verdict.outcome == "not-applicable"
    assert dead(units(units=0, dead=0, start=0, end=0)).verdict.outcome == "not-applicable"


def test_many_layers_make_one_finding():
    (finding,) = dead(*(units(f"layer{i}") for i in range(40))).findings
    assert len(finding.detail) < 12
