"""FIT103 lr-too-low."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import HigherRate, LayerUpdates, RateLook, Schedule, Schedules, Updates
from auditor.testing import judge, place

STEPS = 60


def course(start, end, harder=0.0):
    """A fall; the later batches are harder by so much, whatever the weights."""
    return tuple(
        start + (end - start) * min(1.0, 1.5 * i / STEPS) + harder * (i > STEPS / 2) + 0.02 * math.sin(9.7 * i)
        for i in range(STEPS)
    )


def look(own=0.69, between=0.5, highest=0.2, harder=0.0, **changes):
    arms = {"control": own, "between": between, "highest": highest, "still": 0.7}
    given = {name: course(0.7, end, harder) for name, end in arms.items()}
    return RateLook(**{"factor": 16.0, **given, **changes})


def answer(*looks, ratio=5e-5, schedules=None, planned=None):
    looks = looks or (look(), look())
    higher = HigherRate(learning_rate=1e-5, optimizer="Adam", looks=looks, planned_steps=planned, location=place(18))
    layer = LayerUpdates(name="body", ratios=(ratio,) * 20)
    updates = Updates(steps=tuple(range(20)), layers=(layer,))
    return judge("lr-too-low", higher, updates, *([schedules] if schedules else []))


def test_a_rate_that_hardly_moves_the_loss_is_a_warning():
    (finding,) = answer().findings
    assert (finding.severity, finding.confidence) == (None, "confirmed")  # as severe as the rule: a warning


@pytest.mark.parametrize("harder", [0.15, -0.15])
def test_how_far_the_loss_has_come_is_told_from_rate_zero_on_the_same_batches(harder):
    moved, stays = look(0.55, 0.4, harder=harder), look(harder=harder)
    assert not answer(moved, moved).findings  # 30 % of the way
    assert answer(stays, stays).findings


def test_steps_of_a_modest_size_are_a_note():
    (finding,) = answer(ratio=4e-4).findings
    assert finding.severity == "note"
    assert "yours takes some 960 steps" in finding.message
    lesser = look(0.695, 0.65, 0.58)  # a sixth lower
    assert answer(lesser, lesser).findings
    assert not answer(lesser, lesser, ratio=4e-4).findings


def test_a_long_run_can_afford_a_rate_that_is_low_but_not_tiny():
    (finding,) = answer(ratio=4e-4, planned=1400).findings
    assert "some 960 steps of 1400 for that" in finding.message
    assert not answer(ratio=4e-4, planned=20_000).findings
    assert answer(planned=20_000).findings


def test_steps_of_the_usual_size_pass():
    assert not answer(ratio=2e-3).findings


def test_a_rate_between_has_to_help_as_well():
    assert not answer(look(between=0.7), look(between=0.7)).findings


def test_both_looks_have_to_agree():
    assert not answer(look(), look(highest=0.68)).findings
    assert answer(look()).verdict.outcome == "inconclusive"


def test_a_schedule_that_is_going_to_raise_the_rate():
    def course_of(*ahead):
        return Schedules(steps=60, schedules=(Schedule(kind="LambdaLR", calls=1, ahead=ahead),))

    assert answer(schedules=course_of(5e-5, 1e-3, 1e-4)).verdict.outcome == "inconclusive"
    assert answer(schedules=course_of(1e-5, 1e-6)).findings
