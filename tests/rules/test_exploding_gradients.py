"""GRD101 exploding-gradients."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    Gradients,
    Inputs,
    LayerGradients,
    LayerUpdates,
    LossSeries,
    Optimizer,
    Program,
    Trajectory,
    Updates,
)
from auditor.testing import judge, place

STEPS = 60
FLAT = tuple(1.45 + 0.05 * math.sin(7.3 * i) for i in range(STEPS))
FALLING = tuple(2.3 * 0.96**i for i in range(STEPS))
RISING = tuple(2.3 * 1.05**i for i in range(STEPS))
GROWING = tuple(0.5 * 1.12**i for i in range(STEPS))
STEADY = tuple(1.0 + 0.3 * math.sin(5.1 * i) for i in range(STEPS))


def exploding(losses, norms, *parts, **changes):
    given = Trajectory(losses=losses, learning_rates=(0.1,) * len(losses), grad_norms=norms, **changes)
    return judge("exploding-gradients", given, *parts)


def layers(*norms, steps=5):
    names = [f"fc{i}" for i in range(len(norms))]
    return Gradients(
        steps=tuple(range(steps)),
        layers=[
            LayerGradients(name=name, location=place(10), norms=(norm,) * steps)
            for name, norm in zip(names, norms, strict=True)
        ],
    )


def test_growth_with_a_rising_loss_is_an_error():
    (finding,) = exploding(RISING, GROWING).findings
    assert finding.severity is None  # the rule's own: error
    assert finding.confidence == "suspected"
    assert finding.measured > 10
    assert "loss went from" in finding.message


def test_growth_while_the_loss_falls_passes():
    answer = exploding(FALLING, GROWING)
    assert answer.verdict.outcome == "pass"
    assert answer.verdict.measured > 10  # measured, all the same


def test_growth_with_a_flat_loss_passes_unless_the_updates_are_wild():
    assert exploding(FLAT, GROWING).verdict.outcome == "pass"
    wild = Updates(steps=(0, 20, 40), layers=[LayerUpdates(name="fc", ratios=(0.2, 0.4, 0.9))])
    level = tuple(1.45 + 0.001 * i for i in range(STEPS))
    assert exploding(level, GROWING, wild).findings[0].severity == "warning"
    tame = Updates(steps=(0, 20, 40), layers=[LayerUpdates(name="fc", ratios=(1e-3, 1e-3, math.nan))])
    assert exploding(level, GROWING, tame).verdict.outcome == "pass"


def test_growth_into_infinity_is_confirmed_however_fast():
    norms = (1.0, 40.0, 3e4, 8e9, math.inf, *(math.nan,) * 55)
    losses = (2.3, 2.5, 90.0, 1e6, math.inf, *(math.nan,) * 55)
    (finding,) = exploding(losses, norms).findings
    assert finding.confidence == "confirmed"
    assert "4 steps" in finding.message


def test_nan_without_growth_is_another_rules_matter():
    norms = (*STEADY[:20], *(math.nan,) * 40)
    losses = (*FALLING[:20], *(math.nan,) * 40)
    assert exploding(losses, norms).verdict.outcome == "pass"
    early = exploding((2.3, 2.2, *(math.nan,) * 58), (1.0, 1.0, *(math.nan,) * 58))
    assert early.verdict.outcome == "inconclusive"
    assert "nonfinite-loss" in early.verdict.reason


def test_healthy_growth_before_an_unrelated_nan_passes():
    norms = (*(0.5 * 1.05**i for i in range(55)), *(math.nan,) * 5)
    losses = (*FALLING[:55], *(math.nan,) * 5)
    assert exploding(losses, norms).verdict.outcome == "pass"


def test_steps_that_the_scaler_skipped_do_not_count():
    norms = (math.inf, math.inf, *STEADY[2:])
    assert exploding(FALLING, norms, skipped_steps=(0, 1)).verdict.outcome == "pass"


def test_the_clipped_norm_is_what_matters():
    assert exploding(RISING, GROWING, clipped_norms=(1.0,) * STEPS).verdict.outcome == "pass"


def test_losses_that_need_not_fall_prove_no_harm():
    series = [LossSeries(label="d", values=RISING), LossSeries(label="g", values=RISING)]
    assert exploding(RISING, GROWING, series=series).verdict.outcome == "pass"
    signed = tuple(-loss for loss in FALLING)
    assert exploding(signed, GROWING).verdict.outcome == "pass"
    two = Program(loop="loader", optimizers=[Optimizer(kind="Adam", learning_rates=(1e-3,))] * 2)
    assert exploding(RISING, GROWING, two).verdict.outcome == "pass"


def test_a_steep_depth_profile_with_a_stuck_loss_is_an_error():
    (finding,) = exploding(FLAT, STEADY, layers(1e5, 0.5)).findings
    assert finding.where == "fc0"
    assert finding.location.line == 10
    assert finding.measured == pytest.approx(2e5)
    deep = layers(*(1000 * 0.5**i for i in range(15)))
    assert exploding(FLAT, STEADY, deep).verdict.outcome == "fail"


def test_a_steady_trend_needs_less():
    trend = layers(*(50 * 0.75**i for i in range(15)))
    (finding,) = exploding(FLAT, STEADY, trend).findings
    assert finding.limit == 30.0
    assert exploding(FLAT, STEADY, layers(50.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0)).verdict.outcome == "pass"


def test_a_steep_depth_profile_that_learns_passes():
    assert exploding(FALLING, STEADY, layers(1e5, 0.5)).verdict.outcome == "pass"


def test_a_level_depth_profile_passes():
    assert exploding(FLAT, STEADY, layers(3.0, 1.0, 0.8, 0.4)).verdict.outcome == "pass"
    assert exploding(FLAT, STEADY, layers(1.0, 0.0, math.nan)).verdict.outcome == "pass"


def test_large_inputs_are_not_taken_for_an_explosion():
    raw = Inputs(kind="image", shape=(32, 1, 16, 16), samples=320, mean=180.0, std=18.0, min=0.0, max=255.0)
    assert exploding(FLAT, STEADY, layers(150.0, 1.0, 1.0), raw).verdict.outcome == "pass"
    assert exploding(FLAT, STEADY, layers(150.0, 1.0, 1.0)).verdict.outcome == "fail"


def test_a_clipped_depth_profile_only_warns():
    answer = exploding(FLAT, STEADY, layers(1e5, 0.5), clipped_norms=(1.0,) * STEPS)
    assert answer.findings[0].severity == "warning"


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_few_steps_are_inconclusive(steps):
    assert exploding(FLAT[:steps], STEADY[:steps]).verdict.outcome == "inconclusive"


def test_a_burst_after_which_nothing_moves_is_an_error():
    norms = (14.0, 110.0, 130.0, *([0.2, 0.3, 0.1] * 10))
    stuck = (1.7, 3.7, 4.5, *([1.6, 1.8, 1.5] * 10))
    (finding,) = exploding(stuck, norms).findings
    assert "shot up to 130 at step 2" in finding.message
    learning = (1.7, 3.7, 4.5, *(1.5 * 0.9**step for step in range(30)))
    assert exploding(learning, norms).findings == ()
    assert exploding(stuck, (14.0, 110.0, 130.0, *([9.0] * 30))).findings == ()
    assert exploding(stuck, norms, clipped_norms=(1.0,) * 33).findings == ()
