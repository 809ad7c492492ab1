"""What losses receive: loss-activation-mismatch, single-unit-softmax, softmax-wrong-dim, broadcast-in-loss,
restricted-output-range, sum-reduction, regularization-dominates."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    Clipping,
    CrossSample,
    Explained,
    Loader,
    LoneSoftmax,
    LossSite,
    LossSites,
    LossTerm,
    LowerRate,
    MisfitCall,
    Optimizer,
    PairedReplay,
    PenaltyOff,
    PickedClass,
    Program,
    RawLoss,
    Source,
    Trajectory,
    TwiceSquashed,
)
from auditor.testing import judge, place


def site(function="mse_loss", **changes):
    given = {
        "location": place(40),
        "calls": 8,
        "input_shape": (16, 3),
        "target_shape": (16,),
        "input_min": -3.0,
        "input_max": 4.0,
        "operation": "AddmmBackward0",
        "operation_layer": "head",
        "operation_location": place(12),
    }
    return LossSite(function=function, **{**given, **changes})


def ask(rule, *sites, covered=True, **changes):
    return judge(rule, LossSites(sites=sites, covered=covered, **changes))


# ---------------------------------------------------------------------------- loss-activation-mismatch


def mismatch(*sites, **changes):
    return ask("loss-activation-mismatch", *sites, **changes)


WRITTEN = Source(softmax_divergences=(MisfitCall(text="F.softmax(z, dim=1)", location=place(40)),))


def test_a_softmax_in_a_divergence_that_was_not_observed_fails():
    seen = LossSites(sites=(site("cross_entropy", location=place(12)),))
    (finding,) = judge("loss-activation-mismatch", seen, WRITTEN).findings
    assert (finding.confidence, finding.location.line) == ("suspected", 40)
    assert "F.softmax(z, dim=1)" in finding.message


def test_what_was_observed_counts_before_what_is_written():
    seen = LossSites(sites=(site("kl_div", row_error=0.0, targets=48, target_min=0.0, target_max=0.9),))
    assert judge("loss-activation-mismatch", seen, WRITTEN).verdict.outcome == "pass"


def test_raw_outputs_to_nll_loss_fail():
    (finding,) = mismatch(site("nll_loss", row_error=3.2)).findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 40
    assert "log-probabilities" in finding.message
    assert "3.2" in finding.message


def test_probabilities_to_nll_loss_fail():
    given = site("nll_loss", row_error=1.4, input_min=0.0, input_max=1.0, operation="SoftmaxBackward0")
    assert "softmax" in mismatch(given).findings[0].message


def test_a_sigmoid_before_bce_with_logits_fails_and_names_the_floor():
    given = site(
        "binary_cross_entropy_with_logits", operation="SigmoidBackward0", input_min=0.1, input_max=0.9,
        target_mean=0.25, targets=64,
    )  # fmt: skip
    (finding,) = mismatch(given).findings
    assert f"{0.25 * math.log1p(math.exp(-1)) + 0.75 * math.log(2):.3g}" in finding.message


def test_a_sigmoid_before_cross_entropy_fails():
    assert "0.551" in mismatch(site("cross_entropy", operation="SigmoidBackward0")).findings[0].message


def test_targets_of_a_divergence_in_the_wrong_scale_fail():
    logs = site("kl_div", row_error=0.0, targets=48, target_min=-5.0, target_max=-0.1)
    (finding,) = mismatch(logs).findings
    assert "log_target=True" in finding.fix
    shares = site("kl_div", row_error=0.0, targets=48, target_min=0.0, target_max=0.9, log_target=True)
    (finding,) = mismatch(shares).findings
    assert "drop" in finding.fix.lower()


@pytest.mark.parametrize(
    "given",
    [
        site("nll_loss", row_error=1e-6, input_max=-0.01, operation="LogSoftmaxBackward0"),
        site("nll_loss", row_error=2.0, input_max=0.0, operation="MulBackward0"),  # a focal loss
        site("nll_loss", row_error=2.0, input_max=3.0, operation="MulBackward0"),  # weighted by advantages
        site("nll_loss", row_error=math.nan, input_max=math.nan),
        site("nll_loss", row_error=math.inf, input_max=math.inf),
        site("binary_cross_entropy_with_logits", operation="ReluBackward0", input_min=0.0),
        site("binary_cross_entropy_with_logits", operation="MulBackward0", input_min=0.0, input_max=1.0),
        site("cross_entropy", operation="ReluBackward0", input_min=0.0),
        site("cross_entropy", operation="SoftmaxBackward0", input_min=0.0, input_max=1.0),  # double-softmax
        site("kl_div", row_error=0.0, targets=48, target_min=0.0, target_max=0.9),
        site("kl_div", row_error=0.0, targets=48, target_min=-9.0, target_max=-0.1, log_target=True),
    ],
)
def test_what_fits_passes(given):
    assert mismatch(given).verdict.outcome == "pass"


def test_raw_outputs_with_a_normaliser_beside_are_not_decided():
    answer = mismatch(site("nll_loss", row_error=3.2), covered=False)
    assert answer.verdict.outcome == "inconclusive"


def test_few_calls_are_inconclusive():
    answer = mismatch(site("nll_loss", row_error=3.2, calls=2))
    assert answer.verdict.outcome == "inconclusive"
    assert "needs 3 looked-at calls of one loss, saw 2" in answer.verdict.reason


def test_losses_of_other_kinds_are_not_judged():
    assert mismatch(site("mse_loss")).verdict.outcome == "not-applicable"


# --------------------------------------------------------------------------------- single-unit-softmax


def single(*sites):
    return ask("single-unit-softmax", *sites)


@pytest.mark.parametrize(
    "given",
    [
        site("mse_loss", softmax_size=1, input_shape=(16, 1)),
        site("binary_cross_entropy", softmax_size=1, input_shape=(16,)),
        site("cross_entropy", input_shape=(16, 1)),
        site("backward", softmax_size=1, input_shape=(16, 1), target_shape=()),
        site("-", softmax_size=1),
    ],
)
def test_a_softmax_over_one_unit_fails(given):
    (finding,) = single(given).findings
    assert finding.confidence == "confirmed"
    assert finding.location is not None


def test_one_softmax_is_reported_once():
    both = site("mse_loss", softmax_size=1), site("backward", softmax_size=1, location=place(12))
    (finding,) = single(*both).findings
    assert finding.message.startswith("mse_loss")


@pytest.mark.parametrize(
    "given", [site("nll_loss", softmax_size=3), site("cross_entropy"), site("cross_entropy", input_shape=(16, 2, 9, 9))]
)
def test_softmax_over_several_units_passes(given):
    assert single(given).verdict.outcome == "pass"


def test_losses_without_a_softmax_are_not_judged():
    assert single(site("mse_loss")).verdict.outcome == "not-applicable"
    assert single(site("mse_loss", softmax_size=1, calls=1)).verdict.outcome == "inconclusive"


# ----------------------------------------------------------------------------------- broadcast-in-loss


def spread(*sites):
    return ask("broadcast-in-loss", *sites)


@pytest.mark.parametrize("function", ["mse_loss", "-", "*"])
def test_shapes_that_spread_fail(function):
    (finding,) = spread(site(function, broadcasts=8, input_shape=(64, 1), target_shape=(64,))).findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 40
    assert "(64, 1)" in finding.message
    assert "4096 pairs, of which 64" in finding.message


def test_terms_that_spread_inside_the_model_fail():
    (finding,) = spread(site("-", broadcasts=2, input_shape=(64, 64), target_shape=(64,))).findings
    assert "(64, 1)" in finding.message
    assert "4096 pairs, of which 64" in finding.message
    assert "squeeze(-1)" in finding.fix


def test_equal_shapes_pass():
    assert spread(site(input_shape=(64,), target_shape=(64,))).verdict.outcome == "pass"
    assert spread(site("backward", target_shape=())).verdict.outcome == "not-applicable"


# ----------------------------------------------------------------------------- restricted-output-range


def bounded(*sites, **limits):
    return judge("restricted-output-range", LossSites(sites=sites), limits=limits)


def relu(**changes):
    given = {
        "operation": "ReluBackward0", "lower": 0.0, "targets": 200, "outside": 100, "unreachable": 0.5,
        "target_min": -2.4, "target_max": 2.2,
    }  # fmt: skip
    return site(**{**given, **changes})


def test_targets_below_a_relu_fail_at_its_line():
    (finding,) = bounded(relu()).findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 12
    assert "50 %" in finding.message
    assert "[0, infinity]" in finding.message


def test_a_difference_written_by_hand_counts_too():
    assert bounded(relu(function="-")).verdict.outcome == "fail"


@pytest.mark.parametrize(
    "changes",
    [
        {"outside": 0, "unreachable": 0.0},
        {"outside": 1},  # half a percent
        {"outside": 20, "unreachable": 1e-4},  # noise around zero
        {"lower": None},
        {"unreachable": math.nan},
    ],
)
def test_targets_within_reach_pass(changes):
    assert bounded(relu(**changes)).verdict.outcome == "pass"


def test_few_targets_are_inconclusive_and_other_losses_not_judged():
    assert bounded(relu(targets=8, outside=4)).verdict.outcome == "inconclusive"
    assert bounded(relu(function="nll_loss")).verdict.outcome == "not-applicable"
    assert bounded(relu(targets=0)).verdict.outcome == "not-applicable"


# --------------------------------------------------------------------------------------- sum-reduction


@pytest.mark.parametrize(
    ("terms", "forwards", "outcome"),
    [
        ([LossTerm(kind="mean")] * 32, 32, "fail"),
        ([LossTerm(kind="mean", factor=1 / 32)] * 32, 32, "pass"),
        ([LossTerm(kind="sum", rows=32)], 32, "fail"),  # of a stack
        ([LossTerm(kind="mean")] * 31 + [LossTerm(kind="sum")], 32, "pass"),
        ([LossTerm(kind="mean")] * 20, 20, "not-applicable"),  # steps of a sequence
    ],
)
def test_samples_that_go_through_the_model_one_by_one(terms, forwards, outcome):
    part = LossSites(terms=tuple(terms), summands=len(terms), forwards=forwards, batch_size=1)
    assert judge("sum-reduction", part, program()).verdict.outcome == outcome


def test_a_sum_whose_steps_are_too_long_is_a_warning():
    look = PairedReplay(start="initial", control=(2.3, 2.4) * 30, treated=tuple(2.3 * 0.96**i for i in range(60)))
    lower = LowerRate(factor=0.25, learning_rate=0.1, looks=(look,), fidelity=0.0, location=place(12))
    (finding,) = judge("sum-reduction", LossSites(terms=(SUM,), batch_size=32), program(), lower).findings
    assert finding.severity == "warning"
    assert [remedy.kind for remedy in finding.remedies] == ["divide-loss", "rate"]


def program(kind="SGD", samples=320, **changes):
    optimizer = Optimizer(kind=kind, learning_rates=(0.1,), steps=60)
    loader = Loader(name="loader", role="training", samples=samples, batch_size=32)
    return Program(
        **{"loop": "loader", "optimizers": (optimizer,), "loaders": (loader,), "loss_location": place(30), **changes}
    )


def summed(*terms, program=program(), batch_size=32):  # noqa: B008
    return judge("sum-reduction", LossSites(terms=terms, batch_size=batch_size), program)


SUM = LossTerm(kind="sum", factor=1.0, rows=32)


def test_a_plain_sum_with_sgd_is_noted():
    (finding,) = summed(SUM).findings
    assert finding.location.line == 30
    assert "0.1 acts like 3.2" in finding.message
    assert summed(SUM.model_copy(update={"factor": 0.5})).verdict.outcome == "fail"
    assert summed(SUM.model_copy(update={"rows": 64})).verdict.outcome == "fail"  # two rows a sample


def clipped_sum(norms, limit=5.0, term=SUM):
    clipping = Clipping(kind="norm", limit=limit, calls=len(norms))
    used = tuple(min(norm, limit) for norm in norms)
    course = Trajectory(losses=norms, learning_rates=(0.1,) * len(norms), grad_norms=norms, clipped_norms=used)
    return judge("sum-reduction", LossSites(terms=(term,), batch_size=32), program(clippings=(clipping,)), course)


def test_a_limit_that_cuts_every_step_because_the_loss_is_a_sum():
    (finding,) = clipped_sum((80.0, 100.0, 120.0) * 20).findings
    assert finding.severity is None  # the rule's own, a note
    assert "cuts 100 % of the steps, to 1/20" in finding.message


@pytest.mark.parametrize(
    "norms",
    [(3.0, 4.0, 2.0) * 20, (100.0, 4.0, 3.0) * 20, (400.0, 500.0, 300.0) * 20],
    ids=["never cut", "cut at times", "cut as a mean, too"],
)
def test_a_limit_that_acts_alike_on_sum_and_mean_passes(norms):
    assert clipped_sum(norms).verdict.outcome == "pass"


def test_a_mean_that_is_always_cut_is_not_a_sum():
    assert clipped_sum((100.0,) * 60, term=LossTerm(kind="mean")).verdict.outcome == "pass"


@pytest.mark.parametrize(
    "terms",
    [
        (SUM.model_copy(update={"factor": 1 / 32}),),
        (SUM.model_copy(update={"factor": math.nan}),),
        (SUM.model_copy(update={"rows": 7}),),  # not over the batch
        (LossTerm(kind="mean"),),
        (SUM, SUM.model_copy(update={"factor": 0.5})),  # an evidence lower bound
    ],
)
def test_means_and_objectives_pass(terms):
    assert summed(*terms).verdict.outcome == "pass"


@pytest.mark.parametrize(
    "given",
    [
        program(kind="Adam"),
        program(samples=32),
        program(loaders=()),
        program(clippings=(Clipping(kind="norm", limit=1.0, calls=60),)),
    ],
)
def test_where_a_sum_changes_nothing(given):
    assert summed(SUM, program=given).verdict.outcome == "not-applicable"


# ----------------------------------------------------------------------------------- softmax-wrong-dim


def mixed(**changes):
    given = {"module": "Net", "batch_size": 32, "replaced": 4, "mixing": 4, "moved": 0.3, "noise": 1e-6, "others": 0.9}
    return CrossSample(**{**given, "through": "softmax", "layer": "attend", "location": place(20), **changes})


def wrong_dim(*parts, **changes):
    return judge("softmax-wrong-dim", LossSites(**{"batch_size": 32, "batch_softmaxes": 4, **changes}), *parts)


def rows(**changes):
    given = {"softmax_axis": 0, "softmax_size": 32, "input_shape": (32, 5)}
    return site("nll_loss", **{**given, **changes})


def test_a_softmax_of_one_entry_that_weighs_a_sum_fails():
    lone = LoneSoftmax(shape=(32, 7, 1), summands=7, calls=4, location=place(31))
    (finding,) = wrong_dim(batch_softmaxes=0, lone_softmaxes=(lone,)).findings
    assert finding.location.line == 31
    assert "7 summands" in finding.message
    once = wrong_dim(batch_softmaxes=0, lone_softmaxes=(lone.model_copy(update={"calls": 1}),))
    assert once.verdict.outcome == "not-applicable"


def test_a_softmax_along_samples_as_input_of_a_loss_fails():
    (finding,) = wrong_dim(sites=(rows(),)).findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 12
    assert "(32, 5)" in finding.message


def test_a_softmax_inside_the_model_fails_by_experiment():
    (finding,) = wrong_dim(mixed(), batch_softmax_location=place(17)).findings
    assert finding.location.line == 17
    assert "90 %" in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        {"softmax_axis": 1},
        {"input_shape": (32, 32)},  # similarities
        {"input_shape": (32, 1)},
        {"own_index": True},
        {"input_shape": (7, 5)},
        {"softmax_axis": None},
    ],
)
def test_other_inputs_are_not_blamed(changes):
    assert wrong_dim(mixed(mixing=0, through=""), sites=(rows(**changes),)).verdict.outcome == "pass"


def test_without_such_a_softmax_or_without_the_experiment():
    assert wrong_dim(mixed(mixing=0), batch_softmaxes=0).verdict.outcome == "not-applicable"
    assert wrong_dim().verdict.outcome == "inconclusive"
    assert wrong_dim(mixed(through="mean")).verdict.outcome == "inconclusive"
    assert wrong_dim(mixed(mixing=0)).verdict.outcome == "pass"


# ---------------------------------------------------------------------------- regularization-dominates

STALLED = tuple(2.3 - 0.001 * (i % 3) for i in range(40))
FALLING = tuple(2.3 * 0.96**i for i in range(40))
HALF = tuple(2.3 * 0.98**i for i in range(40))


def look(control=STALLED, treated=FALLING):
    return PairedReplay(start="initial", control=control, treated=treated)


def penalty(looks=(look(), look()), **changes):  # noqa: B008
    given = {
        "terms": 4,
        "ratio": 30.0,
        "looks": looks,
        "fidelity": 0.0,
        "location": place(20),
        "loss_location": place(33),
    }
    return judge("regularization-dominates", PenaltyOff(**{**given, **changes}))


def test_a_decay_that_adam_divides_fails_on_new_samples_in_spite_of_progress():
    slower = look(control=HALF)
    given = {"terms": 0, "weight_decay": 0.1, "ratio": 1.5, "adaptive": True, "fresh": 1.0}
    assert len(penalty((slower, slower), **given).findings) == 1
    for changes in ({"adaptive": False}, {"fresh": 0.5}, {"fresh": None}, {"ratio": 0.9}, {"terms": 1}):
        assert penalty((slower, slower), **{**given, **changes}).verdict.outcome == "pass"
    assert penalty((slower,), **given).verdict.outcome == "pass"
    assert penalty((slower, look(control=FALLING)), **given).verdict.outcome == "pass"


def test_terms_beside_the_loss_function_that_keep_it_from_falling_fail():
    given = {"terms": 0, "ratio": 0.0, "looks": (), "auxiliary": 1}
    (finding,) = penalty(**given, auxiliary_looks=(look(), look())).findings
    assert (finding.confidence, finding.location.line) == ("confirmed", 33)
    assert "1 term beside the loss function keeps it from falling" in finding.message
    for looks in ((look(),), (look(), look(control=FALLING)), (look(treated=STALLED),) * 2):
        assert penalty(**given, auxiliary_looks=looks).verdict.outcome == "pass"


def test_a_sum_beside_a_mean_may_let_the_data_loss_fall():
    given = {"terms": 0, "ratio": 0.0, "looks": (), "auxiliary": 1}
    looks = (look(control=HALF), look(control=HALF))
    assert penalty(**given, auxiliary_looks=looks).verdict.outcome == "pass"
    assert penalty(**given, auxiliary_looks=looks, summed=2000.0).findings
    assert not penalty(**given, auxiliary_looks=looks, summed=9.0).findings


@pytest.mark.parametrize(
    ("kept", "without", "later", "steps", "summed", "fails"),
    [
        (0.02, 0.6, 0.03, 360, 0.0, True),
        (0.02, 0.6, 0.03, 200, 0.0, False),  # it may wake up yet
        (0.02, 0.6, 0.03, 200, 600.0, True),
        (0.02, 0.6, 0.4, 360, 0.0, False),  # it woke up
        (0.02, 0.6, None, 0, 0.0, False),
        (0.2, 0.6, 0.03, 360, 0.0, False),
        (0.02, 0.2, 0.03, 360, 0.0, False),
    ],
)
def test_terms_that_keep_the_outputs_constant_fail(kept, without, later, steps, summed, fails):
    told = (Explained(steps=120, kept=kept, without=without),) * 2
    given = {"terms": 0, "ratio": 0.0, "looks": (), "auxiliary": 1, "explained": told, "explained_later": later}
    looks = (look(control=HALF, treated=HALF),) * 2
    found = penalty(**given, auxiliary_looks=looks, later_steps=steps, summed=summed).findings
    assert bool(found) == fails


def test_a_penalty_that_holds_the_data_back_fails():
    (finding,) = penalty().findings
    assert (finding.confidence, finding.severity) == ("confirmed", None)
    assert finding.location.line == 33
    assert "30 times" in finding.message
    assert penalty(looks=(look(),)).findings[0].confidence == "suspected"
    (finding,) = penalty(terms=0, weight_decay=1.0).findings
    assert finding.location.line == 20
    assert "weight_decay=1" in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        {"ratio": 0.2},
        {"ratio": math.nan},
        {"looks": (look(control=FALLING), look())},  # it learns in spite of the penalty
        {"looks": (look(treated=STALLED),)},  # it does not learn without it either
        {"looks": (look(), look(control=FALLING))},
    ],
)
def test_penalties_that_do_no_harm_pass(changes):
    assert penalty(**changes).verdict.outcome == "pass"


@pytest.mark.parametrize("changes", [{"looks": ()}, {"looks": (look(STALLED[:6], FALLING[:6]),)}, {"fidelity": 0.3}])
def test_too_little_to_compare_is_inconclusive(changes):
    assert penalty(**changes).verdict.outcome == "inconclusive"


# ------------------------------------------------------------------------------------------------- formulas by hand


def twice(inner, outer, **changes):
    return TwiceSquashed(inner=inner, outer=outer, **{"calls": 4, "location": place(9), **changes})


def test_a_sigmoid_of_a_sigmoid_in_the_loss():
    (finding,) = ask("loss-activation-mismatch", twice=(twice("Sigmoid", "Sigmoid"),)).findings
    assert finding.location.line == 9
    assert ask("loss-activation-mismatch", twice=(twice("Sigmoid", "Sigmoid", calls=1),)).findings == ()
    told = ask(
        "loss-activation-mismatch",
        site("binary_cross_entropy_with_logits", operation="SigmoidBackward0", operation_location=place(9)),
        twice=(twice("Sigmoid", "Sigmoid"),),
    )
    assert len(told.findings) == 1


def test_a_log_softmax_of_a_softmax_in_the_loss():
    seen = LossSites(twice=(twice("Softmax", "LogSoftmax"),))
    assert len(judge("double-softmax", seen).findings) == 1
    assert judge("loss-activation-mismatch", seen).findings == ()


def test_chosen_raw_outputs_are_no_loss():
    (finding,) = ask("loss-activation-mismatch", raw=RawLoss(calls=4, layer="head", location=place(12))).findings
    assert "minimum" in finding.message


@pytest.mark.parametrize(
    ("changes", "faulty"),
    [
        ({"log_input": True, "operation": "SoftplusBackward0", "lower": 0.0}, True),
        ({"log_input": True, "operation": "ReluBackward0", "lower": 0.0, "targets": 64, "target_min": 0.0}, True),
        ({"log_input": True, "operation": "ReluBackward0", "lower": 0.0, "targets": 64, "target_min": 3.0}, False),
        ({"log_input": True}, False),
        ({"log_input": False}, True),
        ({"log_input": False, "operation": "ExpBackward0", "lower": 0.0, "input_min": 0.1}, False),
    ],
)
def test_rates_and_their_logarithms(changes, faulty):
    assert bool(ask("loss-activation-mismatch", site("poisson_nll_loss", **changes)).findings) == faulty


@pytest.mark.parametrize(("error", "own", "faulty"), [(1.2, False, True), (1e-6, False, False), (1.2, True, False)])
def test_a_softmax_that_does_not_normalize_the_classes(error, own, faulty):
    seen = site(
        "nll_loss", input_shape=(384, 5), normalizer=(32, 12, 5), normalizer_axis=1, row_error=error, own_index=own
    )
    assert bool(ask("softmax-wrong-dim", seen).findings) == faulty
    part = seen.model_copy(update={"input_shape": (384, 3)})  # of the classes
    assert ask("softmax-wrong-dim", part).findings == ()


def test_weights_that_are_normalized_along_the_other_axis():
    seen = LoneSoftmax(shape=(32, 14, 14), axis=1, summands=14, calls=4, layer="gat", location=place(49))
    answer = judge("softmax-wrong-dim", LossSites(crossed_softmaxes=(seen,)))
    (finding,) = answer.findings
    assert (finding.severity, finding.confidence, finding.location.line) == ("note", "suspected", 49)
    assert "axis 1" in finding.message
    assert "along axis 2" in finding.message
    once = LossSites(crossed_softmaxes=(seen.model_copy(update={"calls": 1}),))
    assert judge("softmax-wrong-dim", once).findings == ()


@pytest.mark.parametrize(
    ("shape", "normalised", "calls", "fails"),
    [((50, 8), 0, 5, True), ((50, 8), 1, 5, False), ((8, 8), 0, 5, False), ((50, 8), 0, 1, False)],
)
def test_a_class_picked_from_a_table_that_is_normalised_over_the_samples(shape, normalised, calls, fails):
    sites = LossSites(picked=PickedClass(shape=shape, normalised=normalised, classes=1, calls=calls))
    assert bool(judge("softmax-wrong-dim", sites).findings) == fails
