"""What the rules about the loop around the optimizer conclude from handmade evidence."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    Accumulation,
    BiasedNorm,
    CallOrder,
    ClearedGradients,
    DividedAccumulation,
    EventTrace,
    LayerChains,
    LayerUpdates,
    LeftOut,
    Motion,
    Ownership,
    PairedReplay,
    ParameterMotion,
    Schedule,
    Schedules,
    StaleGroup,
    Trajectory,
    Unreleased,
    Updates,
)
from auditor.testing import judge, place


def outcome(rule, *parts, **options):
    return judge(rule, *parts, **options).verdict.outcome


# ------------------------------------------------------------------------------------------------ misplaced-zero-grad


def trace(**changes):
    values = {"orders": (CallOrder(calls="nzfbs", steps=60),), "steps": 60, "backwards": 60, "used_backwards": 60}
    return EventTrace(**{**values, **changes})


def cleared(**changes):
    return ClearedGradients(**{"location": place(7), "backwards": 1, "norms": (0.3,), **changes})


def test_the_usual_order_passes():
    assert outcome("misplaced-zero-grad", trace()) == "pass"


def test_empty_steps_fail():
    answer = judge("misplaced-zero-grad", trace(empty_updates=60, cleared=(cleared(before_update=60, backwards=60),)))
    finding = answer.findings[0]
    assert (finding.confidence, finding.location.line) == ("confirmed", 7)
    assert "between backward() and step()" in finding.message


def test_clearing_per_micro_batch_fails():
    site = cleared(between_backwards=180, backwards=180)
    answer = judge("misplaced-zero-grad", trace(backwards=240, cleared=(site,)))
    assert answer.findings[0].severity == "error"
    assert "60 of 240" in answer.findings[0].message


def test_a_dropped_rest_is_a_warning():
    site = cleared(between_backwards=4, at_epoch_start=4, backwards=24)
    answer = judge("misplaced-zero-grad", trace(backwards=240, used_backwards=216, cleared=(site,)))
    assert answer.findings[0].severity == "warning"
    assert "start of an epoch" in answer.findings[0].message


def test_a_batch_dropped_now_and_then_passes():
    assert outcome("misplaced-zero-grad", trace(cleared=(cleared(between_backwards=2, backwards=2),))) == "pass"


def test_losses_of_one_batch_that_clear_each_other():
    site = cleared(between_backwards=60, between_losses=60, backwards=60)
    answer = judge("misplaced-zero-grad", trace(backwards=120, cleared=(site,)))
    [finding] = answer.findings
    assert "several losses" in finding.message
    assert "sum(losses)" in (finding.fix or "")


def test_with_several_optimizers_only_empty_steps_count():
    site = cleared(between_backwards=60, backwards=60)
    assert outcome("misplaced-zero-grad", trace(optimizers=2, backwards=120, cleared=(site,))) == "pass"


def test_closures_and_short_runs_are_not_judged():
    assert outcome("misplaced-zero-grad", trace(closure=True)) == "not-applicable"
    assert outcome("misplaced-zero-grad", trace(steps=2, backwards=2)) == "inconclusive"


# ------------------------------------------------------------------------------------------- who holds the parameters


def ownership(*left_out, **changes):
    values = {"steps": 60, "trained": 1000, "optimizers": ("Adam",), "optimizer_location": place(9)}
    return Ownership(**{**values, "left_out": left_out, **changes})


def left_out(name="decoder.fc", **changes):
    return LeftOut(**{"name": name, "kind": "Linear", "parameters": 500, "tensors": ("weight",), **changes})


def test_everything_in_an_optimizer_passes():
    assert outcome("params-not-in-optimizer", ownership()) == "pass"
    assert outcome("stale-optimizer-params", ownership()) == "pass"


def test_a_forgotten_module_fails_and_is_named_once():
    answer = judge("params-not-in-optimizer", ownership(left_out("decoder.a"), left_out("decoder.b")))
    finding = answer.findings[0]
    assert (finding.where, finding.location.line, finding.confidence) == ("decoder", 9, "confirmed")
    assert finding.measured == pytest.approx(0.5)


@pytest.mark.parametrize("reason", ["moved", "loaded"])
def test_what_is_left_out_on_purpose_passes(reason):
    assert outcome("params-not-in-optimizer", ownership(left_out(**{reason: True}))) == "pass"


def test_a_tiny_share_passes():
    assert outcome("params-not-in-optimizer", ownership(left_out(parameters=5))) == "pass"


def test_an_optimized_image_is_not_looked_at():
    assert outcome("params-not-in-optimizer", ownership(left_out(), own_tensors=True)) == "not-applicable"


def stale(**changes):
    values = {"optimizer": "SGD", "tensors": 2, "parameters": 500, "shapes": ((10, 48), (10,)), "location": place(4)}
    return StaleGroup(**{**values, **changes})


def test_a_replaced_head_fails():
    answer = judge("stale-optimizer-params", ownership(left_out("fc", loaded=True), stale=(stale(),)))
    assert answer.findings[0].location.line == 4
    assert "misses fc" in answer.findings[0].message


def test_stale_or_missing_alone_passes():
    assert outcome("stale-optimizer-params", ownership(stale=(stale(),))) == "pass"
    assert outcome("stale-optimizer-params", ownership(left_out())) == "pass"
    assert outcome("stale-optimizer-params", ownership(left_out(moved=True), stale=(stale(),))) == "pass"


def test_too_few_steps_to_tell():
    assert outcome("stale-optimizer-params", ownership(steps=1)) == "inconclusive"
    assert outcome("params-not-in-optimizer", ownership(steps=1)) == "inconclusive"


# ------------------------------------------------------------------------------------------------------------- motion


def moving(**changes):
    values = {"name": "fc.weight", "optimizer": "AdamW", "graded_updates": 60, "moved": True, "rate": 0.1}
    return ParameterMotion(**{**values, **changes})


def motion(*parameters, steps=60):
    points = max((len(each.norms) for each in parameters), default=0)
    return Motion(steps=steps, norm_steps=tuple(range(0, 4 * points, 4)), parameters=parameters)


def test_weights_that_return_and_groups_without_a_rate():
    back = moving().model_copy(update={"returns": True})
    assert (
        outcome(
            "params-not-updated",
            motion(back, moving(), moving()),
        )
        == "pass"
    )  # fewer than half of all
    part = motion(back).model_copy(update={"total": 1})
    assert outcome("params-not-updated", part) == "fail"
    idle = moving().model_copy(update={"idle_updates": 60, "graded_updates": 0})
    [finding] = judge("params-not-updated", motion(idle, moving())).findings
    assert (finding.severity, "rate of 0" in finding.message) == ("warning", True)
    assert outcome("params-not-updated", motion(idle.model_copy(update={"loaded": True}), moving())) == "pass"


def test_a_module_that_is_released_by_an_assignment():
    held = ownership(unreleased=(Unreleased(name="encoder", kind="Sequential", parameters=900),))
    [finding] = judge("params-not-updated", motion(moving()), held).findings
    assert (finding.severity, "its 900 frozen weights stay frozen" in finding.message) == ("warning", True)
    assert outcome("params-not-updated", motion(moving()), ownership()) == "pass"


def test_moving_parameters_pass():
    assert outcome("params-not-updated", motion(moving())) == "pass"


def test_a_parameter_that_stands_still_fails():
    answer = judge("params-not-updated", motion(moving(), moving(name="a", moved=False, moved_within=False)))
    assert answer.findings[0].where == "a"
    assert answer.findings[0].confidence == "confirmed"


def test_a_bias_that_a_batch_norm_takes_away_may_stand_still():
    still = moving(name="conv.bias", moved=False, moved_within=False)
    chains = LayerChains(linear=2, norms=1, biased=(BiasedNorm(layer="conv", norm="bn", bias=16),))
    assert judge("params-not-updated", motion(moving(), still)).verdict.outcome == "fail"
    assert judge("params-not-updated", motion(moving(), still), chains).verdict.outcome == "pass"
    head = moving(name="head.bias", moved=False, moved_within=False)
    assert judge("params-not-updated", motion(moving(), still, head), chains).findings[0].where == "head.bias"


def test_a_bias_of_no_effect_may_stand_still_under_sgd():
    """As that of the keys of an attention: the softmax takes away what it adds to all scores."""
    weight = moving(name="key.weight", optimizer="SGD")
    bias = moving(name="key.bias", optimizer="SGD", moved=False, moved_within=False)
    assert outcome("params-not-updated", motion(weight, bias)) == "pass"
    assert outcome("params-not-updated", motion(moving(), bias)) == "fail", "nothing of that layer moves"
    low = bias.model_copy(update={"dtype": "bfloat16"})
    assert outcome("params-not-updated", motion(weight, low)) == "fail"
    others = [each.model_copy(update={"optimizer": "Mine"}) for each in (weight, bias)]
    assert outcome("params-not-updated", motion(*others)) == "fail", "it may have left the biases out"


def test_a_parameter_that_is_set_back_passes():
    assert outcome("params-not-updated", motion(moving(moved=False, moved_within=True))) == "pass"


def test_without_gradient_or_rate_nothing_has_to_move():
    still = moving(moved=False, moved_within=False, graded_updates=2)
    assert outcome("params-not-updated", motion(still)) == "inconclusive"
    assert outcome("params-not-updated", motion(still, moving())) == "pass"


def masked(**changes):
    return moving(**{"masked": 240, "masked_moved": 240, "masked_rows": 10, "weight_decay": 0.1, **changes})


def test_masked_rows_that_decay_are_a_warning():
    answer = judge("weight-decay-misapplied", motion(masked()))
    assert answer.findings[0].severity == "warning"
    assert "10 rows of fc.weight" in answer.findings[0].message


def test_masked_rows_that_stay_pass():
    assert outcome("weight-decay-misapplied", motion(masked(masked_moved=0))) == "pass"
    assert outcome("weight-decay-misapplied", motion(moving(weight_decay=0.1))) == "pass"


def exponential(rate, points=15):
    return tuple(4 * math.exp(rate * step) for step in range(points))


def test_exponential_growth_is_a_suspicion():
    answer = judge("weight-growth", motion(moving(norms=exponential(0.05), outward=0.8)))
    assert (answer.findings[0].severity, answer.findings[0].confidence) == (None, "suspected")
    assert "doubling every 55" in answer.findings[0].message


@pytest.mark.parametrize(
    "norms",
    [exponential(0.0), exponential(0.01), tuple(1 + 0.3 * step for step in range(15)), exponential(-0.05)],
    ids=["constant", "slow", "linear", "shrinking"],
)
def test_other_growth_passes(norms):
    assert outcome("weight-growth", motion(moving(norms=norms, outward=0.8))) == "pass"


def test_growth_that_the_gradient_does_not_drive_passes():
    assert outcome("weight-growth", motion(moving(norms=exponential(0.05), outward=0.1))) == "pass"


def test_scale_invariant_weights_and_short_runs_are_not_judged():
    grown = moving(norms=exponential(0.05), outward=0.8, scale_invariant=True)
    assert outcome("weight-growth", motion(grown)) == "inconclusive"
    assert outcome("weight-growth", motion(moving(norms=exponential(0.05, points=5), outward=0.8))) == "inconclusive"


def rates(values):
    return Trajectory(losses=(1.0,) * len(values), learning_rates=tuple(values), grad_norms=(1.0,) * len(values))


def test_growth_within_a_warm_up_is_left_open():
    grown = motion(moving(norms=exponential(0.05), outward=0.8))
    assert outcome("weight-growth", grown, rates([0.001 * step for step in range(60)])) == "inconclusive"
    assert outcome("weight-growth", grown, rates([0.1] * 60)) == "fail"


# ------------------------------------------------------------------------------------------------------- update-ratio


def updates(*ratios, steps=(0, 1, 2, 9, 19, 29)):
    layers = tuple(LayerUpdates(name=f"fc{i}.weight", ratios=(ratio,) * len(steps)) for i, ratio in enumerate(ratios))
    return Updates(steps=steps, layers=layers)


def test_ordinary_updates_pass():
    assert outcome("update-ratio", updates(1e-3, 5e-4, 2e-2), rates([0.1] * 30)) == "pass"


@pytest.mark.parametrize(("ratio", "words"), [(0.8, "replaces what"), (1e-7, "about 1e+06 steps")])
def test_updates_out_of_proportion_fail(ratio, words):
    answer = judge("update-ratio", updates(ratio, ratio, 1e-3))
    assert words in answer.findings[0].message
    assert answer.findings[0].confidence == "suspected"


def test_half_of_the_weights_may_lie_outside():
    assert outcome("update-ratio", updates(1e-7, 1e-3)) == "pass"


def test_a_warm_up_is_left_open():
    warm = rates([1e-6 * step for step in range(30)])
    assert outcome("update-ratio", updates(1e-8, 1e-8, steps=(15, 19, 22, 25, 29)), warm) == "inconclusive"
    assert outcome("update-ratio", updates(1e-8, steps=(0, 1, 2)), warm) == "inconclusive"


def test_weights_without_a_ratio_do_not_count():
    assert outcome("update-ratio", updates(math.nan, 1e-3)) == "pass"
    assert outcome("update-ratio", updates(math.nan)) == "inconclusive"


# ------------------------------------------------------------------------------------------------------- accumulation


def accumulated(**changes):
    values = {
        "per_step": 4,
        "steps": 8,
        "batches": 4,
        "ratios": (1.0,) * 32,
        "reductions": ("mean",),
        "losses": 1,
        "rescaled": (1.0,) * 8,
        "optimizer": "SGD",
        "backward_location": place(12),
    }
    return Accumulation(**{**values, **changes})


def divided(control, treated):
    look = PairedReplay(start="initial", control=tuple(control), treated=tuple(treated))
    return DividedAccumulation(per_step=4, looks=(look, look), fidelity=0.0)


FLAT = [2.0 + 0.01 * (step % 3) for step in range(40)]
FALLING = [2.0 * 0.95**step for step in range(40)]


def test_undivided_losses_are_an_error_where_dividing_helps():
    answer = judge("accumulation-not-normalised", accumulated(), divided(FLAT, FALLING))
    finding = answer.findings[0]
    assert (finding.severity, finding.confidence, finding.location.line) == ("error", "confirmed", 12)
    assert finding.fix == "Divide the loss: `(loss / 4).backward()`."


def test_undivided_losses_are_a_note_where_it_does_not():
    for experiment in (divided(FALLING, FLAT), None):
        parts = [accumulated(), *([experiment] if experiment else [])]
        assert judge("accumulation-not-normalised", *parts).findings[0].severity == "note"


@pytest.mark.parametrize(
    "changes",
    [
        {"ratios": (0.25,) * 32},
        {"scale_free": True, "optimizer": "AdamW"},
        {"rescaled": (0.25,) * 8},
        {"ratios": (0.5,) * 32},
    ],
    ids=["divided", "adam", "clipped", "weighted"],
)
def test_what_is_divided_or_does_not_matter_passes(changes):
    assert outcome("accumulation-not-normalised", accumulated(**changes)) == "pass"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"batches": 1}, "not-applicable"),
        ({"sites": 2}, "not-applicable"),
        ({"reductions": ("sum",)}, "not-applicable"),
        ({"ratios": (math.nan,) * 4}, "inconclusive"),
        ({"ratios": (1.0, 0.5, 1.0, 1.4)}, "inconclusive"),
    ],
)
def test_what_is_no_plain_accumulation_is_not_judged(changes, expected):
    assert outcome("accumulation-not-normalised", accumulated(**changes)) == expected


def test_unequal_micro_batches_are_a_note():
    answer = judge("accumulation-not-normalised", accumulated(ratios=(0.25,) * 32, counted=((100, 20, 60, 80),) * 8))
    assert answer.findings[0].severity == "note"
    assert "a factor of 5" in answer.findings[0].message


def left_over(last=9, parts=7, weight=None, same=True, **changes):
    """Parts of 256 values, each with the same weight, and what is left over."""
    each = 1 / parts
    values = (256,) * (parts - 1) + (last,)
    weights = (each / 256,) * (parts - 1) + (weight or each / last,)
    seen = {"per_step": parts, "batches": parts, "ratios": (each,) * parts * 8, "own_means": True}
    return accumulated(**{**seen, "values": (values,) * 8, "weights": (weights,) * 8, "same_last": same, **changes})


def test_a_remainder_that_counts_as_much_as_a_whole_part():
    (finding,) = judge("accumulation-not-normalised", left_over(reductions=())).findings
    assert finding.severity == "warning"
    assert "28.4 times the weight" in finding.message
    assert judge("accumulation-not-normalised", left_over(same=False)).findings[0].severity == "note"


@pytest.mark.parametrize(
    "part",
    [
        left_over(last=200),
        left_over(last=100, parts=40),
        left_over(weight=1 / 7 / 256),
        left_over(values=((256, 200, 256, 256, 256, 256, 9),) * 8),
        left_over(last=9, parts=2),
        left_over(values=(), weights=()),
    ],
    ids=["nearly whole", "one of many", "weighted", "groups of several sizes", "two groups", "unknown"],
)
def test_other_remainders_pass(part):
    assert outcome("accumulation-not-normalised", part) == "pass"


def test_losses_weighted_by_the_sizes_of_their_parts_pass():
    part = left_over(ratios=(0.16,) * 6 + (0.006,), weight=1 / 7 / 256)
    assert outcome("accumulation-not-normalised", part) == "pass"
    part = left_over(ratios=(0.16,) * 6 + (0.3,), last=200)
    assert outcome("accumulation-not-normalised", part) == "inconclusive"


# ---------------------------------------------------------------------------------------------------------- schedules


def scheduled(seen=None, **changes):
    values = {"kind": "CosineAnnealingLR", "calls": 1, "per_step": 0.0, "per_epoch": 1.0, "step_location": place(20)}
    around = {"steps": 60, "epochs_seen": 1, "batches_per_epoch": 50, "planned_epochs": 10, "loop": "loader"}
    return Schedules(schedules=(Schedule(**{**values, **changes}),), **{**around, **(seen or {})})


def cosine(length, **changes):
    return {"per_period": length, "period_name": "T_max", **changes}


PER_BATCH = {"calls": 59, "per_step": 1.0, "per_epoch": 40.0}


@pytest.mark.parametrize(
    "changes",
    [
        cosine(10),
        cosine(500, **PER_BATCH),
        {"kind": "StepLR", "per_period": 3, "period_name": "step_size", "gamma": 0.1},
        {"kind": "ExponentialLR", "gamma": 0.9999, **PER_BATCH},
        {"kind": "LambdaLR", **PER_BATCH},
        {"kind": "ReduceLROnPlateau"},
        {"kind": "OneCycleLR", "per_period": 500, "period_name": "total_steps", **PER_BATCH},
        {"kind": "CosineAnnealingWarmRestarts", "per_period": 10, "period_name": "T_0", **PER_BATCH},
    ],
    ids=lambda changes: f"{changes.get('kind', 'cosine')}-{changes.get('per_period')}",
)
def test_schedules_at_their_own_pace_pass(changes):
    assert outcome("scheduler-cadence", scheduled(**changes)) == "pass"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (cosine(10, **PER_BATCH), "counts epochs"),
        ({"kind": "StepLR", "per_period": 3, "period_name": "step_size", "gamma": 0.1, **PER_BATCH}, "is left"),
        ({"kind": "ExponentialLR", "gamma": 0.8, **PER_BATCH}, "is left"),
        ({"kind": "MultiStepLR", "gamma": 0.1, "milestones": (3, 6, 9, 12), **PER_BATCH}, "is left"),
        ({"kind": "OneCycleLR", "per_period": 500, "period_name": "total_steps"}, "counts batches"),
        (cosine(500), "counts batches"),
        ({"kind": "StepLR", "calls": 0, "per_epoch": 0.0, "mentioned": False}, "is never stepped"),
    ],
)
def test_schedules_at_another_pace_are_warnings(changes, words):
    answer = judge("scheduler-cadence", scheduled(**changes))
    assert words in answer.findings[0].message
    assert (answer.findings[0].severity, answer.findings[0].confidence) == ("warning", "confirmed")


def test_a_rate_that_is_gone_after_a_few_of_many_epochs():
    decaying = {"kind": "ExponentialLR", "gamma": 0.93, "rates": tuple(0.1 * 0.93**i for i in range(60)), **PER_BATCH}
    answer = judge("scheduler-cadence", scheduled({"planned_epochs": 16}, **decaying))
    assert "after 150 steps" in answer.findings[0].message
    assert outcome("scheduler-cadence", scheduled({"planned_epochs": 3}, **decaying)) == "pass"


def test_a_schedule_that_may_be_stepped_later_passes():
    assert outcome("scheduler-cadence", scheduled(calls=0, per_epoch=0.0)) == "pass"
    assert outcome("scheduler-cadence", scheduled({"epochs_seen": 0}, calls=0, mentioned=False)) == "pass"


def test_stepping_at_every_micro_batch():
    seen = {"backwards_per_step": 4, "batches_per_epoch": 200}
    per_micro_batch = {"calls": 240, "per_step": 4.0, "per_epoch": 160.0}
    answer = judge("scheduler-cadence", scheduled(seen, **cosine(500, **per_micro_batch)))
    assert "every micro-batch, 4 times" in answer.findings[0].message
    assert outcome("scheduler-cadence", scheduled(seen, **cosine(2000, **per_micro_batch))) == "pass"


def test_lesser_findings_are_notes():
    early = judge("scheduler-cadence", scheduled(**cosine(10, before_update=1)))
    assert (early.findings[0].severity, "first rate" in early.findings[0].message) == ("note", True)
    long = judge("scheduler-cadence", scheduled(**cosine(100)))
    assert (long.findings[0].severity, "comes to 10 calls" in long.findings[0].message) == ("note", True)


def test_a_skipped_first_step_is_the_scalers_doing():
    assert outcome("scheduler-cadence", scheduled({"skipped_steps": True}, **cosine(10, before_update=1))) == "pass"


def test_a_short_run_is_left_open():
    assert outcome("scheduler-cadence", scheduled({"steps": 4})) == "inconclusive"


# The course of a rate that is lowered at every step.
GONE = tuple(0.1 * 0.3 ** (i // 4) for i in range(60))  # staircase: below 1e-3 after 24 steps
SLOW = tuple(0.1 * 0.5 ** (i // 15) for i in range(60))


@pytest.mark.parametrize(
    ("rates", "facts", "expected"),
    [
        (GONE, {}, "fail"),
        ((*GONE[:10], *([GONE[9]] * 50)), {}, "pass"),
        (SLOW, {"batches_per_epoch": 400, "planned_epochs": 5}, "fail"),
        (SLOW, {"batches_per_epoch": 100, "planned_epochs": 5}, "pass"),
        (SLOW, {"planned_steps": 4000}, "fail"),
        (SLOW, {}, "pass"),
        (tuple(0.1 * (1 - i / 59) for i in range(60)), {}, "pass"),  # linear, over with the run
        (tuple(0.1 / (1 + i) ** 0.5 for i in range(60)), {"planned_steps": 4000}, "pass"),
    ],
)
def test_the_course_of_the_rate(rates, facts, expected):
    schedule = Schedule(kind="MultiplicativeLR", calls=60, per_step=1.0, rates=rates)
    assert outcome("scheduler-cadence", Schedules(steps=60, schedules=(schedule,), **facts)) == expected


def test_a_rate_that_may_end_at_a_least_one_is_not_followed_any_further():
    schedule = Schedule(kind="LambdaLR", calls=60, per_step=1.0, rates=SLOW)
    assert outcome("scheduler-cadence", Schedules(steps=60, schedules=(schedule,), planned_steps=4000)) == "pass"


LINEAR = {"kind": "LambdaLR", **PER_BATCH, "rates": tuple(0.1 * (1 - i / 10) for i in range(10)), "last_call": 10}


def test_a_rate_that_goes_below_zero():
    ahead = {"calls_ahead": 490, "ahead": tuple(0.1 * (1 - i / 10) for i in range(11, 501, 5))}
    (finding,) = judge("scheduler-cadence", scheduled(**LINEAR, **ahead)).findings
    assert finding.severity == "error"
    assert "below zero" in finding.message
    late = {"calls_ahead": 490, "ahead": (*(0.05,) * 60, *(-0.01,) * 38)}
    assert outcome("scheduler-cadence", scheduled(**LINEAR, **late)) == "pass"


@pytest.mark.parametrize(("left", "expected"), [(1e-5, "fail"), (0.02, "pass")])
def test_a_copy_of_the_scheduler_tells_that_the_rate_will_be_gone(left, expected):
    course = {"rates": tuple(0.1 * 0.97**i for i in range(60)), "last_call": 60}
    ahead = {"calls_ahead": 440, "ahead": (*(0.01,) * 8, *(0.1 * left,) * 80)}
    scheduler = scheduled({"planned_epochs": 10}, **{"kind": "LambdaLR", **PER_BATCH, **course, **ahead})
    assert outcome("scheduler-cadence", scheduler) == expected
    again = scheduled({"planned_epochs": 10}, **{"kind": "LambdaLR", **PER_BATCH, **course, "calls_ahead": 440})
    assert outcome("scheduler-cadence", again) == "pass"  # a course like any other: where it ends is not known


def warming(step):
    return 0.1 * min(1.0, (step + 1) / 150)


IN_BATCHES = {
    "kind": "LambdaLR",
    "rates": (warming(1),),
    "last_call": 1,
    "calls_ahead": 9,
    "ahead": tuple(map(warming, range(2, 11))),
    "batches_ahead": 440,
    "at_every_batch": tuple(map(warming, range(2, 442, 3))),
}


def test_a_warm_up_in_batches_that_is_stepped_per_epoch():
    (finding,) = judge("scheduler-cadence", scheduled(**IN_BATCHES)).findings
    assert finding.severity == "warning"
    assert "7.3 % of its peak" in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        {"ahead": (*IN_BATCHES["ahead"][:-1], 0.09)},  # most of the way: a warm-up in epochs of a short run
        {"ahead": (*IN_BATCHES["ahead"][:-1], 0.001)},  # falls again
        {"at_every_batch": tuple(0.001 * 1.1**i for i in range(100))},  # a sweep: higher to the end, whatever the pace
        {"at_every_batch": ()},  # a copy cannot be trusted
        {"per_step": 1.0, "per_epoch": 50.0},
    ],
)
def test_other_rises_pass(changes):
    assert outcome("scheduler-cadence", scheduled(**{**IN_BATCHES, **changes})) == "pass"


@pytest.mark.parametrize(("left", "expected"), [(0.01, "fail"), (0.09, "pass"), (None, "pass")])
def test_a_scheduler_that_is_built_anew_in_its_warm_up(left, expected):
    begun = scheduled(kind="LambdaLR", **PER_BATCH, left_at=left, left_before=0.1 if left else None)
    assert outcome("scheduler-cadence", begun) == expected
