"""Rules about how a model hangs together, on handmade evidence. A severity of None is the rule's own."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    BiasedNorm,
    CrossSample,
    CustomFunction,
    CustomFunctions,
    CutRecurrence,
    EmbeddingLookups,
    GradientReach,
    GraphCut,
    GraphCuts,
    HiddenModule,
    HiddenModules,
    IgnoredInput,
    InputUse,
    LayerChains,
    LinearPair,
    Overfit,
    OverfitArm,
    Unreached,
    UnreadPlaces,
)
from auditor.testing import judge, place

# ------------------------------------------------------------------------------------------------ unregistered-modules


def hidden(**changes):
    given = {"holder": "Net.blocks", "container": "list", "kinds": ("Block",), "modules": 4, "parameters": 900}
    given |= {"reached": 6, "location": place(12)}
    found = HiddenModule(**{**given, **changes})
    return judge("unregistered-modules", HiddenModules(steps=6, registered=100, found=(found,)))


def test_untrained_layers_in_a_list_fail():
    (finding,) = hidden().findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 12
    assert "Net.blocks" in finding.message
    assert "90 %" in finding.message


@pytest.mark.parametrize(
    "meant", [{"optimized": True}, {"moved": True}, {"loaded": True}, {"training": False}, {"reached": 0}], ids=str
)
def test_modules_that_are_hidden_on_purpose_pass(meant):
    assert hidden(**meant).verdict.outcome == "pass"


def test_registered_layers_pass():
    assert judge("unregistered-modules", HiddenModules(steps=3, registered=10)).verdict.outcome == "pass"


def test_no_watched_step_is_inconclusive():
    assert judge("unregistered-modules", HiddenModules(steps=0)).verdict.outcome == "inconclusive"


# --------------------------------------------------------------------------------------------------------- broken-graph


def reach(*, steps=30, moved=False, rootless=0, elements=220):
    lost = Unreached(name="encoder", kind="Linear", parameters=elements, steps=steps, moved=moved, location=place(8))
    return GradientReach(steps=steps, parameters=1000, unreached=(lost,), rootless=rootless)


def cuts(**changes):
    given = {"layers": ("encoder",), "parameters": 220, "change": 0.2, "operation": "detach", "location": place(21)}
    return GraphCuts(cuts=(GraphCut(**{**given, **changes}),), fidelity=0.0)


def test_weights_that_the_loss_depends_on_and_no_gradient_reaches_fail_at_the_cut():
    (finding,) = judge("broken-graph", reach(), cuts()).findings
    assert (finding.severity, finding.confidence, finding.location.line) == (None, "confirmed", 21)
    assert "detach() in line 21" in finding.message


def test_unused_outputs_pass():
    assert judge("broken-graph", reach(), cuts(change=0.0, operation="", location=None)).verdict.outcome == "pass"


def test_weights_moved_by_hand_pass():
    assert judge("broken-graph", reach(moved=True)).verdict.outcome == "pass"


def test_no_grad_is_a_warning_and_passes_for_a_frozen_part():
    answer = judge("broken-graph", reach(), cuts(operation="no_grad"))
    assert [finding.severity for finding in answer.findings] == ["warning"]
    for meant in ({"loaded": True}, {"training": False}):
        assert judge("broken-graph", reach(), cuts(operation="no_grad", **meant)).verdict.outcome == "pass"


def test_a_change_within_the_noise_of_the_replay_passes():
    assert judge("broken-graph", reach(), cuts(change=1e-4, noise=1e-4)).verdict.outcome == "pass"


def test_too_few_steps_are_inconclusive():
    answer = judge("broken-graph", reach(steps=3), cuts())
    assert answer.verdict.outcome == "inconclusive"
    assert "needs 5 steps" in answer.verdict.reason


def test_without_the_experiment_it_is_inconclusive():
    assert judge("broken-graph", reach()).verdict.outcome == "inconclusive"


def test_a_loss_without_any_graph_says_so():
    (finding,) = judge("broken-graph", reach(rootless=30, elements=1000), cuts(operation="item")).findings
    assert "nothing that the loss was computed from" in finding.message


def test_everything_reached_passes():
    assert judge("broken-graph", GradientReach(steps=30, parameters=10)).verdict.outcome == "pass"


# ---------------------------------------------------------------------------------------------- cross-sample-dependence


def cross(**changes):
    given = {"module": "Net", "batch_size": 32, "replaced": 4, "mixing": 4, "moved": 0.3, "own": 1.2, "noise": 1e-5}
    given |= {"others": 1.0, "swap_error": 0.4, "layer": "lstm", "layer_kind": "LSTM", "location": place(9)}
    return judge("cross-sample-dependence", CrossSample(**{**given, **changes}))


def test_mixed_samples_fail_at_the_first_layer_that_moved():
    (finding,) = cross().findings
    assert (finding.severity, finding.confidence, finding.location.line) == (None, "confirmed", 9)


def test_outputs_that_were_never_the_samples_own_fail():
    assert len(cross(mixing=2, unmoved=2, own=0.0).findings) == 1
    assert cross(mixing=2, unmoved=1).findings == ()  # a router with limited capacity


def test_a_layer_that_takes_the_sequence_first_is_named():
    (finding,) = cross(sequence_first=True, swap_error=1e-7).findings
    assert finding.severity is None
    assert "takes the sequence first" in finding.message


def test_samples_mixed_all_alike_are_a_warning():
    (finding,) = cross(swap_error=1e-7).findings
    assert finding.severity == "warning"


def test_softmax_over_the_batch_is_an_error():
    (finding,) = cross(swap_error=1e-7, through="softmax").findings
    assert finding.severity is None


def test_independent_samples_pass():
    assert cross(mixing=0, moved=2e-7).verdict.outcome == "pass"


def test_samples_that_depend_on_their_place_in_the_batch_fail():
    apart = {"mixing": 0, "moved": 0.0, "swap_error": 0.4}
    (finding,) = cross(**apart, placed=1.0, place_error=0.4).findings
    assert (finding.severity, finding.confidence, finding.location.line) == (None, "confirmed", 9)
    assert "place in the batch" in finding.message
    assert cross(**apart, placed=None).findings == ()
    assert cross(**apart, placed=0.2, place_error=0.4).findings == ()  # a few: places that are handed out
    assert cross(**apart, placed=1.0, place_error=5e-4).findings == ()


def test_rounding_passes():
    assert cross(moved=0.02, noise=0.05, mixing=0).verdict.outcome == "pass"


def test_places_in_a_router_pass():
    assert cross(mixing=2).verdict.outcome == "pass"


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"batch_statistics": ("bn",)}, "not-applicable"),
        ({"through": "mean"}, "inconclusive"),
        ({"random": True}, "inconclusive"),
        ({"replaced": 1, "mixing": 1}, "inconclusive"),
        ({"moved": math.nan}, "inconclusive"),
    ],
)
def test_what_cannot_be_told(changes, outcome):
    assert cross(**changes).verdict.outcome == outcome


# --------------------------------------------------------------------------------------------------- input-independence

FALLING = tuple(0.7 * 0.97**step + 0.7 for step in range(120))
LEARNED = tuple(1.4 * 0.95**step for step in range(120))


def use(**changes):
    given = {"module": "Net", "samples": 16, "steps": 120, "real": FALLING, "constant": FALLING, "output_change": 0.5}
    given |= {"examined": 119, "changed_inputs": 1, "same_targets": True, "distinct_targets": True}
    return InputUse(**{**given, **changes, "loss_function": "cross_entropy", "model_location": place(30)})


def test_one_of_several_inputs_without_effect():
    lost = GradientReach(steps=60, parameters=90, unreached=(Unreached(name="encoder", parameters=40, steps=60),))
    ignored = use(ignored=(IgnoredInput(name="images", shape=(16, 1, 8, 8)),))
    (finding,) = judge("input-independence", ignored, lost).findings
    assert "do not depend on the input 'images'" in finding.message
    assert all("images" not in each.message for each in judge("input-independence", ignored).findings)
    masked = use(ignored=(IgnoredInput(name="attention_mask", shape=(16, 8)),))
    assert all("mask" not in each.message for each in judge("input-independence", masked, lost).findings)


@pytest.mark.parametrize(
    ("shape", "axis", "named"),
    [((16, 24, 5), 1, "24 steps of 'x'"), ((16, 40), 1, "40 columns of 'x'"), ((16, 3, 32, 32), 2, "32 places of 'x'")],
)
def test_an_input_of_which_one_place_is_read(shape, axis, named):
    part = use(unread=(UnreadPlaces(name="x", shape=shape, axis=axis, read=(0,)),))
    (finding,) = judge("input-independence", part).findings
    assert (finding.severity, finding.confidence) == ("warning", "confirmed")
    assert named in finding.message


def test_little_that_is_read_of_a_mask_says_nothing():
    part = use(real=LEARNED, unread=(UnreadPlaces(name="attention_mask", shape=(16, 24), axis=1, read=(0,)),))
    assert judge("input-independence", part).verdict.outcome == "pass"


@pytest.mark.parametrize(("rows", "lookups", "found"), [(25, 540, True), (2, 540, False), (25, 60, False)])
def test_an_embedding_that_is_asked_for_one_row(rows, lookups, found):
    lone = EmbeddingLookups(name="store", rows=rows, lowest=0, highest=0, lookups=lookups, location=place(12))
    answer = judge("input-independence", use(real=LEARNED, one_row=(lone,)))
    assert [finding.location.line for finding in answer.findings] == ([12] if found else [])


@pytest.mark.parametrize(
    ("changes", "found"),
    [({}, True), ({"reached": 12}, False), ({"kept": 1, "cut": 10}, False), ({"calls": 2, "cut": 1}, False)],
)
def test_a_recurrence_that_is_cut_in_every_step(changes, found):
    given = {"name": "cell", "kind": "GRUCell", "cell": True, "calls": 12, "cut": 11, "reached": 1, **changes}
    reach = GradientReach(steps=60, parameters=90, recurrences=(CutRecurrence(**given),))
    assert bool(judge("broken-graph", reach).findings) == found


def overfit(*, reached=False, end=0.7):
    losses = tuple(1.4 * (end / 1.4) ** (step / 100) for step in range(100))
    arms = tuple(
        OverfitArm(rate_factor=rate, learning_rate=rate, losses=losses, reached=reached) for rate in (1.0, 0.1, 10.0)
    )
    return Overfit(samples=16, batch_size=64, tiled=True, floor=0.0, target=0.07, initial=1.4, arms=arms)


def independence(part, *others):
    return judge("input-independence", part, *others)


def test_outputs_that_do_not_move_with_the_inputs_fail():
    (finding,) = independence(use(output_change=0.0, real=FALLING[:30], constant=FALLING[:30], examined=29)).findings
    assert (finding.severity, finding.confidence, finding.location.line) == (None, "confirmed", 30)


def test_zero_initialised_heads_are_looked_at_after_some_steps():
    assert independence(use(output_change=0.0, examined=2, real=LEARNED)).verdict.outcome == "pass"


def test_nothing_learned_yet_is_inconclusive():
    still = (1.4,) * 30
    answer = independence(use(output_change=0.0, examined=29, real=still, constant=still))
    assert answer.verdict.outcome == "inconclusive"


def test_inputs_that_help_pass():
    assert independence(use(real=LEARNED)).verdict.outcome == "pass"


def test_inputs_that_do_not_help_are_a_warning_when_nothing_can_be_learned_by_heart():
    (finding,) = independence(use(), overfit()).findings
    assert finding.severity == "warning"


def test_samples_learned_by_heart_pass():
    assert independence(use(), overfit(reached=True)).verdict.outcome == "pass"


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"same_targets": False}, "not-applicable"),
        ({"changed_inputs": 0}, "not-applicable"),
        ({"distinct_inputs": False}, "inconclusive"),
        ({"distinct_targets": False}, "inconclusive"),
        ({"fidelity": 0.5}, "inconclusive"),
        ({"constant": (), "refused": "ValueError"}, "inconclusive"),
        ({"real": FALLING[:30], "constant": FALLING[:30]}, "inconclusive"),
        ({"real": (1.4,) * 120, "constant": (1.4,) * 120}, "inconclusive"),
    ],
)
def test_what_the_two_arms_cannot_tell(changes, outcome):
    assert independence(use(**changes), overfit()).verdict.outcome == outcome


def test_it_says_how_many_steps_would_decide():
    slow = tuple(1.4 - 0.0002 * step for step in range(120))
    reason = independence(use(real=slow, constant=slow)).verdict.reason
    assert "At this pace it takes some" in reason


def test_without_overfit_equal_arms_are_inconclusive():
    assert independence(use()).verdict.outcome == "inconclusive"


def test_a_fit_that_comes_down_further_is_not_settled():
    assert independence(use(), overfit(end=0.3)).verdict.outcome == "inconclusive"


# ------------------------------------------------------------------------------- missing-nonlinearity, bias-before-norm


def pair(before, inner, after, **changes):
    given = {"first": "fc1", "second": "fc2", "first_kind": "Linear", "second_kind": "Linear", "before": before}
    given |= {"inner": inner, "after": after, "weights": inner * (before + after), "needed": before * after}
    return LinearPair(**{**given, **changes, "location": place(5)})


def chains(*pairs, biased=(), norms=2):
    return LayerChains(linear=4, norms=norms, pairs=pairs, biased=biased)


@pytest.mark.parametrize("widths", [(20, 64, 10), (8, 8, 8)])
def test_linear_layers_in_a_row_are_a_warning(widths):
    (finding,) = judge("missing-nonlinearity", chains(pair(*widths))).findings
    assert (finding.severity, finding.confidence, finding.location.line) == (None, "confirmed", 5)


@pytest.mark.parametrize("widths", [(256, 8, 256), (100, 10, 50), (1000, 4, 12), (96, 48, 64)])
def test_bottlenecks_pass(widths):
    assert judge("missing-nonlinearity", chains(pair(*widths))).verdict.outcome == "pass"


def test_a_projection_before_a_head_is_a_note():
    (finding,) = judge("missing-nonlinearity", chains(pair(784, 128, 10))).findings
    assert finding.severity == "note"


def test_a_network_that_is_linear_from_end_to_end_is_a_warning():
    whole = chains(pair(784, 128, 10)).model_copy(update={"whole": True})
    (finding,) = judge("missing-nonlinearity", whole).findings
    assert finding.severity is None
    assert "the network is one linear map" in finding.message
    bottleneck = chains(pair(784, 4, 784)).model_copy(update={"whole": True})
    assert judge("missing-nonlinearity", bottleneck).findings == ()


@pytest.mark.parametrize(("second", "found"), [("Conv2d", 1), ("Linear", 0)])
def test_an_average_between_two_convolutions(second, found):
    averaged = pair(8, 16, 8, averaged=True, needed=0, second_kind=second)
    assert len(judge("missing-nonlinearity", chains(averaged)).findings) == found


@pytest.mark.parametrize(("widths", "found"), [((27, 64, 32), 1), ((96, 16, 96), 0), ((64, 32, 1), 0)])
def test_a_batch_norm_is_no_nonlinearity(widths, found):
    findings = judge("missing-nonlinearity", chains(pair(*widths, norm=True, dropout=True))).findings
    assert len(findings) == found
    assert all("only a batch norm and a dropout" in each.message and each.severity is None for each in findings)


def test_no_pairs_pass():
    assert judge("missing-nonlinearity", chains()).verdict.outcome == "pass"


def test_biases_in_front_of_norms_are_one_note():
    biased = tuple(BiasedNorm(layer=f"conv{i}", norm=f"bn{i}", bias=16, location=place(i + 1)) for i in range(3))
    (finding,) = judge("bias-before-norm", chains(biased=biased)).findings
    assert (finding.measured, finding.location.line) == (48.0, 1)


def test_layers_without_bias_pass():
    assert judge("bias-before-norm", chains()).verdict.outcome == "pass"
    assert judge("bias-before-norm", chains(norms=0)).verdict.outcome == "not-applicable"


# --------------------------------------------------------------------------------------------------- incorrect-gradient


def function(verdict="wrong", **changes):
    given = {"name": "Sine", "verdict": verdict, "error": 0.6, "directions": 8, "location": place(14)}
    return judge("incorrect-gradient", CustomFunctions(functions=(CustomFunction(**{**given, **changes}),)))


def test_a_wrong_backward_fails():
    (finding,) = function().findings
    assert (finding.severity, finding.confidence, finding.location.line) == (None, "confirmed", 14)


def test_a_wrong_positive_factor_is_a_warning_and_a_wrong_sign_an_error():
    assert function(ratio=0.5).findings[0].severity == "warning"
    assert function(ratio=-1.0).findings[0].severity is None


def test_a_missing_gradient_is_an_error():
    (finding,) = function(missing=True, input=1, error=1.0).findings
    assert "no gradient for input 2" in finding.message


@pytest.mark.parametrize("verdict", ["surrogate", "identity", "clipped"])
def test_stand_ins_are_notes_that_name_the_function(verdict):
    (finding,) = function(verdict).findings
    assert finding.severity == "note"
    assert "Sine" in finding.message


def test_right_backward_passes():
    assert function("right", error=1e-8).verdict.outcome == "pass"


def test_unchecked_functions_are_inconclusive():
    answer = function("unchecked", directions=0, reason="TypeError: no kernel")
    assert answer.verdict.outcome == "inconclusive"
    assert "no kernel" in answer.verdict.reason
