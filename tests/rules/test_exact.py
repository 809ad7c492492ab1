"""The rules decided by identities: double-softmax, missing-zero-grad, nonfinite-loss, test-set-leakage."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    CopiedTarget,
    CopiedTargets,
    FedRows,
    FoldLoop,
    GradientReset,
    GradientResets,
    HeldOutTrained,
    Inputs,
    Leakage,
    LeftOut,
    LossInput,
    LossInputs,
    Nonfinite,
    Overlap,
    Ownership,
    Refit,
    SamplePair,
    Source,
    Split,
    TargetWindow,
    Trajectory,
    WindowOverlap,
)
from auditor.testing import judge, place


def call(**changes):
    given = {
        "function": "cross_entropy",
        "location": place(40),
        "calls": 60,
        "rows": 3840,
        "classes": 10,
        "row_sum_error": 2e-7,
        "min_value": 0.001,
        "max_value": 0.98,
        "producer": "SoftmaxBackward0",
        "producer_layer": "net.head",
        "producer_location": place(31),
    }
    return LossInput(**{**given, **changes})


def softmax(*calls):
    return judge("double-softmax", LossInputs(calls=calls))


def test_probabilities_fail_at_the_line_of_the_softmax():
    (finding,) = softmax(call()).findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 31
    assert "1.46" in finding.message  # ln(1 + 9/e)
    assert finding.where == "net.head"


@pytest.mark.parametrize(
    ("classes", "floor"), [(2, "0.313"), (3, "0.551"), (4, "0.744"), (100, "3.62"), (1000, "5.91")]
)
def test_the_floor_of_the_loss(classes, floor):
    assert floor in softmax(call(classes=classes)).findings[0].message


def test_probabilities_of_an_unknown_producer_fail():
    assert softmax(call(producer="", producer_location=None)).findings[0].location.line == 40


def test_half_precision_softmax_fails():
    assert softmax(call(row_sum_error=4e-3)).verdict.outcome == "fail"


def test_softmax_over_the_wrong_dimension_fails_and_says_so():
    (finding,) = softmax(call(row_sum_error=0.8)).findings
    assert any("wrong dimension" in line for line in finding.detail)


@pytest.mark.parametrize(
    "changes",
    [
        {"row_sum_error": 7.0, "min_value": -3.0, "max_value": 4.0, "producer": "AddmmBackward0"},
        {"log_probabilities": True, "min_value": -6.0, "max_value": -0.1, "producer": "LogSoftmaxBackward0"},
        {"row_sum_error": 0.4, "producer": "ReluBackward0"},
        {"row_sum_error": math.nan, "min_value": math.nan, "max_value": math.nan},
        {"row_sum_error": math.inf, "min_value": -math.inf, "max_value": math.inf, "producer": ""},
    ],
)
def test_other_inputs_pass(changes):
    assert softmax(call(**changes)).verdict.outcome == "pass"


def test_log_probabilities_are_called_harmless():
    answer = softmax(call(log_probabilities=True, min_value=-6.0, max_value=-0.1))
    assert "harmless" in answer.verdict.reason


@pytest.mark.parametrize("changes", [{"classes": 1}, {"function": "nll_loss"}, {"rows": 0}])
def test_calls_that_say_nothing_are_not_judged(changes):
    assert softmax(call(**changes)).verdict.outcome == "not-applicable"


def test_a_few_rows_are_no_proof():
    assert softmax(call(calls=1, rows=4, producer="")).verdict.outcome == "inconclusive"
    assert softmax(call(calls=1, rows=4)).verdict.outcome == "fail"  # the producer is known


def reset(**changes):
    given = {
        "optimizer": "SGD",
        "steps_checked": 59,
        "stale_steps": 59,
        "stale_norms": tuple(float(i + 1) for i in range(59)),
        "grad_norms": tuple(float(i + 2) for i in range(59)),
        "zero_grad_calls": 0,
        "step_location": place(21),
        "backward_location": place(20),
    }
    return GradientReset(**{**given, **changes})


def zero_grad(*resets):
    return judge("missing-zero-grad", GradientResets(optimizers=resets))


def test_stale_gradients_fail_confirmed():
    (finding,) = zero_grad(reset()).findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 20
    assert "all 59" in finding.message
    assert "never called" in finding.detail[0]


def test_gradients_that_are_assigned_to_copies_of_the_weights_are_not_left_over():
    def verdict(own=True, calls=60, moved=True):
        resets = GradientResets(optimizers=(reset(zero_grad_calls=calls),))
        half = LeftOut(name="model", parameters=10, moved=moved)
        ownership = Ownership(steps=60, trained=10, own_tensors=own, left_out=(half,))
        return judge("missing-zero-grad", resets, ownership).verdict.outcome

    assert verdict() == "not-applicable"
    assert verdict(calls=0) == "fail", "leaf tensors that nothing clears"
    assert verdict(moved=False) == "fail", "an image is optimized, and the wrong gradients are cleared"
    assert verdict(own=False) == "fail"


def test_a_reset_once_per_epoch_fails():
    (finding,) = zero_grad(reset(stale_steps=56, zero_grad_calls=3)).findings
    assert "56 of 59" in finding.message
    assert "3 times" in finding.detail[0]


def test_cleared_gradients_pass():
    answer = zero_grad(reset(stale_steps=0, stale_norms=(), zero_grad_calls=60))
    assert answer.verdict.outcome == "pass"
    assert answer.verdict.measured == 0.0


def test_a_leftover_of_norm_zero_passes():
    assert zero_grad(reset(stale_norms=(0.0,) * 59)).verdict.outcome == "pass"


def test_one_stale_step_passes():
    assert zero_grad(reset(stale_steps=1)).verdict.outcome == "pass"


def test_each_faulty_optimizer_is_reported():
    answer = zero_grad(reset(), reset(optimizer="Adam"), reset(optimizer="RMSprop", stale_steps=0))
    assert [finding.where for finding in answer.findings] == ["SGD", "Adam"]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_few_steps_are_inconclusive(steps):
    assert zero_grad(reset(steps_checked=steps, stale_steps=steps)).verdict.outcome == "inconclusive"
    assert zero_grad().verdict.outcome == "inconclusive"


def test_stale_norms_may_be_nan():
    assert zero_grad(reset(stale_norms=(math.nan,), grad_norms=(math.inf,))).verdict.outcome == "fail"


def broken(**changes):
    given = {
        "steps_checked": 60,
        "first_step": 17,
        "what": "gradient",
        "direction": "backward",
        "operation": "SqrtBackward0",
        "layer": "embed",
        "location": place(52),
        "traced": True,
        "losses_before": (0.5, 0.4),
    }
    return Nonfinite(**{**given, **changes})


def trajectory(**changes):
    given = {"losses": (1.0,) * 60, "learning_rates": (0.1,) * 60, "grad_norms": (1.0,) * 60}
    return Trajectory(**{**given, **changes})


def test_a_nonfinite_gradient_fails_and_names_the_operation():
    (finding,) = judge("nonfinite-loss", broken()).findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 52
    assert "step 17" in finding.message
    assert "SqrtBackward0" in finding.message
    assert "1e-8" in finding.fix


@pytest.mark.parametrize(
    ("operation", "remedy"),
    [
        ("LogBackward0", "clamp_min"),
        ("LogSoftmaxBackward0", "unmasked"),
        ("DivBackward0", "divisor"),
        ("ExpBackward0", "overflows"),
    ],
)
def test_the_remedy_fits_the_operation(operation, remedy):
    assert remedy in judge("nonfinite-loss", broken(operation=operation)).findings[0].fix


def test_unknown_operations_keep_the_fix_of_the_rule():
    assert judge("nonfinite-loss", broken(operation="MyOp")).findings[0].fix is None


def test_a_batch_with_nan_is_the_datas_fault():
    (finding,) = judge("nonfinite-loss", broken(input_nonfinite=True)).findings
    assert "batch itself" in finding.message
    assert "data" in finding.fix


def test_a_weight_that_was_nan_before():
    assert "weight" in judge("nonfinite-loss", broken(parameter_nonfinite=True, what="")).findings[0].message


def test_finite_runs_pass():
    answer = judge("nonfinite-loss", Nonfinite(steps_checked=60))
    assert answer.verdict.outcome == "pass"
    assert "60 steps" in answer.verdict.reason


def test_steps_that_the_scaler_skipped_pass():
    answer = judge("nonfinite-loss", broken(first_step=2), trajectory(skipped_steps=(0, 1, 2)))
    assert answer.verdict.outcome == "pass"
    assert "skipped 3 steps" in answer.verdict.reason
    assert judge("nonfinite-loss", broken(), trajectory(skipped_steps=(0,))).verdict.outcome == "fail"


def test_nothing_checked_is_inconclusive():
    assert judge("nonfinite-loss", Nonfinite(steps_checked=0)).verdict.outcome == "inconclusive"


def leak(*overlaps, held_out=("test_loader",), training=2000, samples=400, **changes):
    splits = [Split(name="train_loader", role="training", samples=training, hashed=training, method="arrays")]
    for name in held_out:
        splits.append(
            Split(name=name, role="held-out", samples=samples, hashed=samples, method="arrays", location=place(9))
        )
    return judge("test-set-leakage", Leakage(splits=splits, overlaps=overlaps, **{"sample_values": 784, **changes}))


def overlap(shared=80, total=400, held_out="test_loader", **changes):
    return Overlap(training="train_loader", held_out=held_out, shared=shared, held_out_samples=total, **changes)


def test_shared_samples_fail_confirmed():
    pair = SamplePair(training_index=3, held_out_index=7)
    (finding,) = leak(overlap(location=place(47), labels_agree=1.0, pairs=(pair,))).findings
    assert finding.confidence == "confirmed"
    assert finding.severity == "error"
    assert finding.location.line == 47
    assert "80 of 400" in finding.message
    assert "20 %" in finding.message
    assert any("7 = 3" in line for line in finding.detail)
    assert leak(overlap()).findings[0].location.line == 9


def test_clean_splits_pass():
    answer = leak()
    assert answer.verdict.outcome == "pass"
    assert answer.verdict.measured == 0.0
    assert leak(overlap(shared=0)).verdict.outcome == "pass"


def test_a_few_duplicates_of_a_known_data_set_only_warn():
    assert leak(overlap(shared=2)).findings[0].severity == "warning"
    assert leak(overlap(shared=2, identity=True)).findings[0].severity == "error"


def test_chance_repeats_of_small_tables_pass():
    answer = leak(overlap(shared=40), duplicates_in_training=150, sample_values=4)
    assert answer.verdict.outcome == "pass"
    assert "chance" in answer.verdict.reason


def test_drawings_in_black_and_white_repeat_by_chance():
    drawn = Inputs(kind="image", shape=(64, 100), samples=320, mean=0.3, std=0.4, min=0.0, max=1.0, binary_share=1.0)
    splits = [
        Split(name="train_loader", role="training", samples=2560, hashed=2560, method="arrays"),
        Split(name="test_loader", role="held-out", samples=512, hashed=512, method="arrays"),
    ]
    shared = overlap(shared=451, total=512)
    part = Leakage(splits=splits, overlaps=[shared], duplicates_in_training=1799, sample_values=100)
    assert judge("test-set-leakage", part, drawn).verdict.outcome == "pass"
    assert judge("test-set-leakage", part).verdict.outcome == "fail"


def test_short_texts_repeat_by_chance_with_the_labels_that_they_decide_on():
    measured = Inputs(kind="features", shape=(64, 20), samples=320, mean=0.0, std=1.0, min=-3.0, max=3.0)
    splits = [
        Split(name="train_loader", role="training", samples=2400, hashed=2400, method="items"),
        Split(name="test_loader", role="held-out", samples=600, hashed=600, method="items"),
    ]

    def verdict(repeats, shared, *further):
        shared = overlap(shared=shared, total=600, labels_agree=1.0)
        part = Leakage(splits=splits, overlaps=[shared], duplicates_in_training=repeats, sample_values=20)
        return judge("test-set-leakage", part, *further).verdict.outcome

    assert verdict(75, 42) == "pass"
    assert verdict(75, 42, measured) == "fail"
    assert verdict(900, 300) == "fail", "copied into balance before the split"


def test_more_repeats_than_chance_fail():
    assert leak(overlap(shared=200), duplicates_in_training=20, sample_values=4).verdict.outcome == "fail"
    assert (
        leak(overlap(shared=40), duplicates_in_training=150, sample_values=4, training=2000).verdict.outcome == "pass"
    )


def fed(found=90, compared=100, **changes):
    known = {
        "name": "x_test",
        "text": False,
        "step": 80,
        "rows": compared,
        "trained": 300,
        "repeated": 0.9,
        "chance": 0,
    }
    rows = FedRows(**{**known, **changes}, found=found, compared=compared, location=place(31))
    return judge("test-set-leakage", Leakage(splits=(), fed=rows))


def test_rows_that_no_loader_hands_out_are_judged_by_what_the_model_was_fed():
    (finding,) = fed().findings
    assert (finding.location.line, finding.where) == (31, "x_test")
    assert "90 of 100 rows of x_test (90 %)" in finding.message
    assert fed(5).verdict.outcome == "pass"
    assert fed(9, 10).verdict.outcome == "inconclusive"


def test_a_training_on_everything_before_the_last_score():
    seen = Refit(data="test", joined=place(75), location=place(76), evaluated=place(78))
    (finding,) = judge("test-set-leakage", Leakage(splits=()), Source(refits=(seen,))).findings
    assert (finding.severity, finding.location.line, finding.where) == ("warning", 76, "test")
    assert "line 75" in finding.message
    assert "line 78" in finding.message


def test_one_model_for_all_folds_fails():
    loop = FoldLoop(model="net", built=place(34), location=place(36))
    (finding,) = judge("test-set-leakage", Leakage(splits=()), Source(fold_loops=(loop,))).findings
    assert (finding.where, finding.location.line) == ("net", 36)


def test_a_held_out_loader_that_is_trained_on_fails():
    seen = HeldOutTrained(name="test_loader", training="train_loader", updates=40, location=place(54))
    (finding,) = judge("test-set-leakage", Leakage(splits=(), trained=(seen,))).findings
    assert "40 steps" in finding.message


def test_windows_that_overlap_at_both_ends_were_split_at_random():
    (finding,) = fed(0, windows=90, overlapping=80).findings
    assert "80 of 90 windows of x_test" in finding.message
    assert fed(0, windows=90, overlapping=6).verdict.outcome == "pass"
    assert fed(0).verdict.outcome == "pass"


def test_rows_that_repeat_among_themselves_are_no_leak():
    assert fed(30, own=0.1).verdict.outcome == "pass"  # three times as many were trained on
    assert fed(95, own=0.1).verdict.outcome == "fail"


def test_rows_that_chance_cannot_make_equal_are_copies():
    assert fed(37, own=0.3).verdict.outcome == "pass"  # a table of codes
    # Of measurements, two different rows hardly ever agree in a column: 300 of them make 6 % of chance repeats.
    assert fed(37, own=0.3, agreement=0.0002).verdict.outcome == "fail"
    assert fed(15, own=0.3, agreement=0.0002).verdict.outcome == "pass"


def test_inputs_that_never_come_twice_together_allow_no_verdict():
    assert fed(0, inputs=2, repeated=0.0).verdict.outcome == "inconclusive"
    assert fed(0, inputs=2).verdict.outcome == "pass"
    assert fed(0, repeated=0.0).verdict.outcome == "pass"


def test_windows_of_a_loader_that_overlap_at_both_ends_were_split_at_random():
    cut = WindowOverlap(training="train_loader", held_out="test_loader", windows=90, overlapping=80)
    judged = leak(windows=(cut,))
    (finding,) = judged.findings
    assert "80 of 90 windows of test_loader" in finding.message
    assert judged.verdict.measured == pytest.approx(80 / 90)
    assert leak(windows=(cut.model_copy(update={"overlapping": 6}),)).verdict.outcome == "pass"
    assert leak(windows=(cut.model_copy(update={"windows": 12, "overlapping": 10}),)).verdict.outcome == "pass"
    assert leak(windows=(cut.model_copy(update={"held_out": "train_eval"}),)).verdict.outcome == "pass"
    assert len(leak(overlap(shared=80), windows=(cut,)).findings) == 1  # whole samples say more


def test_text_that_repeats_itself_is_no_leak():
    assert fed(text=True).verdict.outcome == "fail"
    assert fed(text=True, chance=0.5).verdict.outcome == "pass"
    assert fed(20, text=True).verdict.outcome == "pass"  # where nine of ten came twice in training
    assert fed(2, text=True, repeated=0.05).verdict.outcome == "inconclusive"


def test_oversampling_before_the_split_fails():
    copied = overlap(shared=180, labels_agree=1.0)
    assert leak(copied, duplicates_in_training=900, sample_values=20).verdict.outcome == "fail"
    # The same repeats with labels that differ are chance.
    chance = overlap(shared=180, labels_agree=0.8)
    assert leak(chance, duplicates_in_training=900, sample_values=20).verdict.outcome == "pass"


def test_duplicates_within_the_training_set_are_no_excuse_for_images():
    assert leak(overlap(shared=80), duplicates_in_training=1000).verdict.outcome == "fail"


def test_oversampling_after_the_split_passes():
    assert leak(duplicates_in_training=900, sample_values=20).verdict.outcome == "pass"


def test_loaders_that_evaluate_the_training_set_pass():
    named = overlap(shared=400, held_out="train_eval_loader", identity=True)
    assert leak(named, held_out=("train_eval_loader", "test_loader")).verdict.outcome == "pass"
    whole = overlap(shared=2000, total=2000, held_out="loader 2", identity=True)
    assert leak(whole, held_out=("loader 2", "test_loader")).verdict.outcome == "pass"
    # but with no clean held-out loader besides, the training set is the test set
    assert leak(whole, held_out=("loader 2",)).verdict.outcome == "fail"


def test_without_held_out_data_there_is_nothing_to_compare():
    assert leak(held_out=()).verdict.outcome == "not-applicable"


def test_unread_samples_are_inconclusive():
    unread = [
        Split(name="a", role="training", samples=10, hashed=0, method="items"),
        Split(name="b", role="held-out", samples=10, hashed=0, method="items"),
    ]
    assert judge("test-set-leakage", Leakage(splits=unread)).verdict.outcome == "inconclusive"
    some = [
        Split(name="a", role="training", samples=1000, hashed=1000, method="items"),
        Split(name="b", role="held-out", samples=1000, hashed=5, method="items", complete=False),
    ]
    answer = judge("test-set-leakage", Leakage(splits=some))
    assert answer.verdict.outcome == "inconclusive"
    assert "needs 20" in answer.verdict.reason


# ----------------------------------------------------------------------------------------------------- target-in-inputs


def copied(samples=504, **changes):
    given = {"shape": (56, 18), "place": (17,), "samples": samples, "distinct": 380, "location": place(66)}
    return judge("target-in-inputs", CopiedTargets(samples=samples, copies=(CopiedTarget(**{**given, **changes}),)))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({}, "column 17, the last one, of"),
        ({"place": (3,)}, "column 3 of"),
        ({"shape": (56, 18, 4), "place": (17, 2)}, "the last step (feature 2)"),
    ],
)
def test_a_target_among_the_inputs(changes, where):
    (finding,) = copied(**changes).findings
    assert (finding.confidence, finding.location.line) == ("confirmed", 66)
    assert where in finding.message


@pytest.mark.parametrize(
    "changes",
    [{"distinct": 1}, {"shape": (56, 18, 4), "place": (0, 2)}],  # constant; an early value that is to be remembered
)
def test_targets_that_may_be_among_the_inputs(changes):
    assert copied(**changes).verdict.outcome == "pass"
    assert copied(samples=60).verdict.outcome == "inconclusive"


def averaged(**changes):
    window = {"shape": (38,), "column": 12, "rows": 900, "past": 3, "weights": (0.25,) * 4, "location": place(58)}
    return judge("target-in-inputs", CopiedTargets(samples=504, windows=(TargetWindow(**{**window, **changes}),)))


def test_a_mean_of_the_target_among_the_inputs():
    (finding,) = averaged().findings
    assert (finding.confidence, finding.measured, finding.location.line) == ("confirmed", 0.25, 58)
    assert "column 12" in finding.message.lower()
    assert "from -3 to 0 rows away" in finding.detail[0]
    (finding,) = averaged(shape=(12, 3), column=2).findings
    assert "last step (feature 2)" in finding.message
    assert not averaged(rows=100).findings
