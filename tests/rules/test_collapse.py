"""FIT106 majority-class-collapse: class weights the wrong way up."""

from __future__ import annotations

import pytest

from auditor.evidence import Labels, Trajectory
from auditor.testing import judge, place

LOSSES = Trajectory(losses=(1.0,) * 60, learning_rates=(0.1,) * 60, grad_norms=(1.0,) * 60)


def weighted(*weights, hits=(1150, 0, 0), seen=(1150, 90, 40)):
    part = Labels(
        classes=3,
        counts=(7200, 560, 240),
        complete=True,
        seen=seen,
        hits=hits,
        predicted=(1280, 0, 0),
        late_batches=20,
        uniform_batches=20,
        weighted_loss=True,
        class_weights=weights,
        location=place(47),
    )
    return judge("majority-class-collapse", part, LOSSES)


def test_frequencies_in_place_of_their_inverse_fail():
    (finding,) = weighted(2.7, 0.21, 0.09).findings
    assert (finding.severity, finding.confidence, finding.location.line) == (None, "confirmed", 47)
    assert "30 times as much" in finding.message


@pytest.mark.parametrize("weights", [(0.4, 4.8, 11.0), (1.0, 1.0, 1.0), (1.5, 1.2, 1.0), (), (2.0, 0.1, 0.2)])
def test_other_weights_are_no_matter_of_this_rule(weights):
    assert weighted(*weights).verdict.outcome == "not-applicable"


def test_such_weights_that_do_no_harm_pass():
    assert weighted(2.7, 0.21, 0.09, hits=(1100, 60, 20)).verdict.outcome == "pass"


def test_a_rare_class_that_was_hardly_seen_decides_nothing():
    assert weighted(2.7, 0.21, 0.09, seen=(1150, 90, 4)).verdict.outcome == "inconclusive"
