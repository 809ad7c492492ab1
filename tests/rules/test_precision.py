"""The rules of half precision: underflow, the loss scale and clipping, updates that weights cannot hold."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    FullPrecision,
    LostUpdates,
    LowPrecision,
    PairedReplay,
    ScaleChange,
    ScaledClip,
    ScalerUse,
    Underflow,
    UnscaledShare,
)
from auditor.testing import judge, place


def underflow(**changes):
    given = {"source": "autocast", "scale": 65536.0, "lost": (0.4,) * 8, "elements": 20_000, "worst_layer": "stem"}
    return judge("fp16-without-scaler", Underflow(**{**given, "autocast_location": place(12), **changes}))


def test_underflow_fails():
    (finding,) = underflow().findings
    assert (finding.confidence, finding.location.line) == ("confirmed", 12)
    assert "40 %" in finding.message
    assert "autocast" in finding.message
    assert "weights are float16" in underflow(source="weights").findings[0].message


def test_a_little_underflow_passes():
    answer = underflow(lost=(0.02,) * 7 + (0.9,))
    assert (answer.verdict.outcome, answer.verdict.measured) == ("pass", 0.02)


@pytest.mark.parametrize("changes", [{"lost": (0.4, math.nan)}, {"lost": ()}, {"elements": 60}])
def test_little_to_compare_is_inconclusive(changes):
    assert underflow(**changes).verdict.outcome == "inconclusive"


# ---------------------------------------------------------------------------------------------------------------- clip


def clip(step, **changes):
    given = {"kind": "norm", "limit": 1.0, "seen": 41_000.0, "scale": 65536.0, "unscaled": False}
    return ScaledClip(step=step, **{**given, **changes})


def use(**changes):
    given = {"steps": 60, "scalers": 1, "scaler_steps": 60, "updates": 59, "scales": (65536.0,) * 60}
    places = {"built_location": place(3), "step_location": place(30), "clip_location": place(29)}
    return ScalerUse(**{**given, **places, **changes})


def change(ratio=2.0, **changes):
    return ScaleChange(**{"scale": 16384.0, "factor": 0.5, "ratios": (ratio,), **changes})


def clipping(clips, *parts):
    return judge("clip-before-unscale", use(clips=clips), *parts)


def test_clipping_of_scaled_gradients_fails():
    (finding,) = clipping([clip(step) for step in range(60)], change()).findings
    assert (finding.confidence, finding.severity, finding.location.line) == ("confirmed", "error", 29)
    assert "41000" in finding.message
    assert "0.626" in finding.message
    assert "100 %" in finding.message


def test_without_the_experiment_it_is_a_warning():
    (finding,) = clipping([clip(step) for step in range(60)]).findings
    assert (finding.confidence, finding.severity) == ("suspected", "warning")


def test_an_update_that_does_not_depend_on_the_scale_passes():
    """`max_norm * scaler.get_scale()`, or gradients divided by hand."""
    answer = clipping([clip(step) for step in range(60)], change(ratio=1.0002))
    assert answer.verdict.outcome == "pass"
    assert "does not depend" in answer.verdict.reason


def test_an_experiment_in_which_the_clipping_did_not_take_hold_proves_nothing():
    # At a scale of 8192, the gradient of the first step has a norm below the limit.
    clips = [clip(0, seen=2.0), *(clip(step) for step in range(1, 60))]
    assert clipping(clips, change(ratio=1.0)).findings[0].confidence == "suspected"


def test_a_limit_that_follows_the_scale_passes():
    clips = [clip(step, limit=32768.0, seen=51_000.0) for step in range(60)]
    assert clipping(clips, change(ratio=1.0, limit_ratio=0.5)).verdict.outcome == "pass"
    assert clipping(clips, change(ratio=1.0, limit_ratio=1.0)).findings[0].confidence == "suspected"


@pytest.mark.parametrize(
    "changes",
    [{"unscaled": True}, {"scale": 1.0}, {"limit": 1e6}, {"seen": math.inf}, {"seen": math.nan}],
)
def test_right_or_harmless_clipping_passes(changes):
    answer = clipping([clip(step, **changes) for step in range(60)], change(ratio=1.0))
    assert (answer.verdict.outcome, answer.verdict.measured) == ("pass", 0.0)


def test_one_odd_call_passes():
    assert clipping([clip(0), *(clip(s, unscaled=True) for s in range(1, 60))]).verdict.outcome == "pass"


def test_without_clipping_there_is_nothing_to_judge():
    assert clipping([]).verdict.outcome == "not-applicable"
    assert clipping([clip(0, scale=math.nan)]).verdict.outcome == "inconclusive"


# -------------------------------------------------------------------------------------------------------------- misuse


def misuse(*parts, **changes):
    return judge("scaler-misuse", use(**changes), *parts)


def test_a_scaler_used_as_it_should_passes():
    assert misuse().verdict.outcome == "pass"
    assert misuse(skipped=(0, 1, 2, 3)).verdict.outcome == "pass"
    assert misuse(scalers=3, single_step_scalers=1).verdict.outcome == "pass"  # one for each phase


def test_a_scaler_built_in_every_step_fails():
    (finding,) = misuse(scalers=60, single_step_scalers=60).findings
    assert (finding.confidence, finding.location.line) == ("confirmed", 3)
    assert "60 of 60 steps" in finding.message


def test_a_scaler_that_is_never_updated_fails_even_where_torch_raises_at_once():
    (finding,) = misuse(steps=2, scaler_steps=2, updates=0).findings
    assert "update() never" in finding.message
    assert misuse(steps=2).verdict.outcome == "inconclusive"


def test_a_loss_that_is_left_unscaled_beside_another_fails():
    apart = UnscaledShare(share=0.4, error=0.001)
    (finding,) = misuse(change(1.0, unscaled=(apart,)), mixed_losses=60, plain_location=place(28)).findings
    assert (finding.confidence, finding.location.line) == ("confirmed", 28)
    assert "65536 times too small" in finding.message


@pytest.mark.parametrize("apart", [{"share": 0.4, "error": 1.2}, {"share": 0.01, "error": 0.0}, None])
def test_mixed_losses_without_an_effect_pass(apart):
    """Multiplied by the scale by hand, of no weight, or not replayed."""
    unscaled = (UnscaledShare(**apart),) if apart else ()
    assert misuse(change(1.0, unscaled=unscaled), mixed_losses=60).verdict.outcome == "pass"
    assert misuse(mixed_losses=60).verdict.outcome == "pass"


def test_scaled_gradients_used_by_the_optimizer_fail():
    (finding,) = misuse(change(ratio=0.5), direct_steps=60, scaler_steps=0, updates=0).findings
    assert (finding.confidence, finding.severity) == ("confirmed", "error")
    assert "65536 times too large" in finding.message
    (finding,) = misuse(direct_steps=60, scaler_steps=0, updates=0).findings
    assert (finding.confidence, finding.severity) == ("suspected", "warning")


def test_gradients_divided_by_hand_pass():
    assert misuse(change(ratio=1.0), direct_steps=60, scaler_steps=0, updates=60).verdict.outcome == "pass"


def test_a_loss_that_was_not_scaled_fails():
    (finding,) = misuse(change(ratio=2.0), unscaled_losses=60).findings
    assert "65536 times too small" in finding.message
    assert "scaler.scale(loss)" in finding.fix


def test_skipping_to_the_end_fails():
    (finding,) = misuse(skipped=tuple(range(60))).findings
    assert "100 % of the last 20 steps" in finding.message
    assert misuse(skipped=tuple(range(60)), finite_losses=False).verdict.outcome == "pass"
    assert misuse(skipped=tuple(range(20)), steps=20).verdict.outcome == "pass"


# -------------------------------------------------------------------------------------------------------- lost updates


def look(step=29, **changes):
    given = {
        "learning_rate": 1e-4,
        "wanted": 40_000,
        "unchanged": 0.98,
        "repeats": 128,
        "tested": 30_000,
        "stuck": 0.97,
    }
    return LostUpdates(step=step, **{**given, **changes})


def lost(*looks, **changes):
    given = {"optimizer": "AdamW", "dtype": "bfloat16", "elements": 50_000, "share": 1.0, "location": place(9)}
    return judge("low-precision-lost-updates", LowPrecision(looks=looks, **{**given, **changes}))


def test_lost_updates_fail():
    (finding,) = lost(look(9), look(29), look(59)).findings
    assert (finding.confidence, finding.location.line, finding.measured) == ("confirmed", 9, 0.98)
    assert "98 %" in finding.message
    assert "bfloat16" in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        {"stuck": 0.0},  # a float32 copy or a compensation term: single steps change nothing, many do
        {"stuck": 0.3, "agreement": 0.97},  # stochastic rounding
        {"unchanged": 0.6, "stuck": 0.55},  # a rate that bfloat16 can hold
    ],
)
def test_updates_that_arrive_pass(changes):
    assert lost(look(9, **changes), look(29, **changes)).verdict.outcome == "pass"


@pytest.mark.parametrize("changes", [{"tested": 10}, {"agreement": 0.5}, {"stuck": math.nan}, {"step": 2}])
def test_looks_that_do_not_tell_are_inconclusive(changes):
    assert lost(look(**changes)).verdict.outcome == "inconclusive"


def test_a_rate_that_still_rises_is_inconclusive():
    assert lost(look(9), look(29), rising_rate=True).verdict.outcome == "inconclusive"
    assert lost(look(9, stuck=0.1), rising_rate=True).verdict.outcome == "pass"


def test_gradients_limited_by_hand_under_the_scale():
    (finding,) = clipping((), change()).findings
    assert "2 times as large" in finding.message
    for other in (change(1.0), change(1.3)):
        assert clipping((), other).verdict.outcome == "not-applicable"


STORED = {"optimizer": "AdamW", "dtype": "bfloat16", "elements": 50_000, "share": 1.0}
IN_BF16 = tuple(0.5 * 0.99**step for step in range(90))


@pytest.mark.parametrize(
    ("factor", "looks", "fidelity", "severity"),
    [
        (0.6, 2, 0.0, "warning"),
        (0.85, 2, 0.0, "note"),
        (0.95, 2, 0.0, None),
        (0.6, 1, 0.0, None),
        (0.6, 2, 0.5, None),
    ],
)
def test_some_lost_updates_count_where_float32_ends_lower(factor, looks, fidelity, severity):
    replay = PairedReplay(start="initial", control=IN_BF16, treated=tuple(factor * loss for loss in IN_BF16))
    full = FullPrecision(looks=(replay,) * looks, fidelity=fidelity)
    some = LowPrecision(looks=(look(9, unchanged=0.3, stuck=0.05),) * 2, **STORED)
    found = judge("low-precision-lost-updates", some, full).findings
    assert [str(each.severity) for each in found] == ([severity] if severity else [])
    few = LowPrecision(looks=(look(9, unchanged=0.05, stuck=0.05),) * 2, **STORED)
    assert judge("low-precision-lost-updates", few, full).findings == ()
    rising = some.model_copy(update={"rising_rate": True})
    assert judge("low-precision-lost-updates", rising, full).findings == ()
