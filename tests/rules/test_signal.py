"""What the rules about signals and gradients through the depth of a network conclude from handmade evidence."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    Activations,
    CalmedRecurrence,
    ForwardScale,
    FrozenEarly,
    Gradients,
    Layer,
    LayerGradients,
    LayerScale,
    LayerUpdates,
    Model,
    Overfit,
    OverfitArm,
    PairedReplay,
    Program,
    RecurrentScale,
    Reinitialized,
    SaturatedLayer,
    Saturation,
    UnitActivity,
    Updates,
    ValueClipping,
)
from auditor.testing import judge, place


def outcome(rule, *parts, **options):
    return judge(rule, *parts, **options).verdict.outcome


# ------------------------------------------------------------------------------------------------ vanishing-gradients


def gradients(sizes, kind="Linear"):
    layers = [
        LayerGradients(name=f"fc{i}", kind=kind, location=place(i + 1), norms=(size,) * 5)
        for i, size in enumerate(sizes)
    ]
    return Gradients(steps=(0, 1, 2, 3, 4), layers=tuple(layers))


def program(count, parameters=100):
    layers = tuple(Layer(name=f"fc{i}", kind="Linear", parameters=parameters) for i in range(count))
    return Program(loop="loader", models=(Model(name="Net", kind="Net", parameters=1, trainable=1, layers=layers),))


def updates(ratios):
    layers = tuple(LayerUpdates(name=f"fc{i}.weight", ratios=(ratio,) * 5) for i, ratio in enumerate(ratios))
    return Updates(steps=(0, 1, 2, 9, 19), layers=layers)


FADING = [1e-8, 1e-7, 1e-6, 1e-5, 1e-3, 1e-2, 1e-1, 1.0]
SAME = tuple(1.0 + 0.01 * (step % 5) for step in range(30))


def frozen(other=SAME):
    return FrozenEarly(layers=("fc0", "fc1", "fc2"), control=SAME, frozen=tuple(other), fidelity=0.0)


def test_vanishing_gradients_are_an_error_where_freezing_changes_nothing():
    answer = judge("vanishing-gradients", gradients(FADING), updates(FADING), program(8), frozen())
    finding = answer.findings[0]
    assert (finding.severity, finding.confidence, finding.location.line) == ("error", "confirmed", 1)
    assert "fc0, fc1 and fc2 do not learn" in finding.message


def test_a_first_layer_of_another_kind_is_no_trend():
    sizes = [1e-5, 1e-5, 1.0, 0.5, 1e-5, 1e-5, 1.0, 0.5, 0.9, 0.4]
    assert outcome("vanishing-gradients", gradients(sizes), updates([1e-7] * 10), frozen()) == "pass"


def test_a_rate_that_is_low_everywhere_passes():
    assert outcome("vanishing-gradients", gradients(FADING), updates([1e-7] * 8), frozen()) == "pass"


def test_without_the_experiment_they_are_a_warning():
    answer = judge("vanishing-gradients", gradients(FADING), updates(FADING))
    assert (answer.findings[0].severity, answer.findings[0].confidence) == ("warning", "suspected")


def test_early_layers_that_change_the_loss_pass():
    parts = (gradients(FADING), updates(FADING), frozen([loss * 1.1 for loss in SAME]))
    assert outcome("vanishing-gradients", *parts) == "pass"


def test_small_gradients_that_adam_rescales_pass():
    falling = tuple(2.0 * 0.97**step for step in range(30))
    both = FrozenEarly(layers=("fc0", "fc1"), control=falling, frozen=falling, fidelity=0.0)
    assert outcome("vanishing-gradients", gradients(FADING), updates([1e-3] * 8), both) == "pass"


def test_gradients_of_rounding_that_adam_rescales_in_a_loop_that_stands_still():
    assert outcome("vanishing-gradients", gradients(FADING), updates([1e-3] * 8), frozen()) == "fail"


SLOW = [3e-3, 1e-2, 5e-2, 0.2, 0.5, 1.0]


@pytest.mark.parametrize(("reached", "expected"), [(False, "fail"), (True, "pass")])
def test_milder_fading_counts_where_a_few_samples_cannot_be_learned(reached, expected):
    arms = tuple(
        OverfitArm(rate_factor=f, learning_rate=f, losses=(1.6,) * 9, reached=reached and f == 10) for f in (0.1, 1, 10)
    )
    heart = Overfit(samples=16, batch_size=16, tiled=True, floor=0.0, target=0.1, initial=1.6, arms=arms, fidelity=0.0)
    assert outcome("vanishing-gradients", gradients(SLOW), updates([1e-4] * 6), frozen(), heart) == expected
    changed = frozen([loss * 1.1 for loss in SAME])
    assert outcome("vanishing-gradients", gradients(SLOW), updates([1e-4] * 6), changed, heart) == "pass"


def test_even_gradients_pass():
    assert outcome("vanishing-gradients", gradients([1.0] * 6), updates([1e-9] * 6)) == "pass"


def test_shallow_models_embeddings_and_norms_are_not_judged():
    assert outcome("vanishing-gradients", gradients([1e-9, 1.0, 1.0]), updates([1e-9] * 3)) == "not-applicable"
    assert outcome("vanishing-gradients", gradients(FADING, kind="Embedding"), updates(FADING)) == "not-applicable"


def test_no_gradient_at_the_end_is_left_open():
    assert outcome("vanishing-gradients", gradients([math.nan, 1.0, 1.0, 1.0, 1.0]), updates([])) == "pass"
    sizes = [1.0, 1.0, 1.0, 5e-324, 5e-324]
    assert outcome("vanishing-gradients", gradients(sizes), updates([1e-9] * 5)) in ("pass", "inconclusive")


# ------------------------------------------------------------------------------------------------------ clip-by-value


def clipping(cosine, share, steps=9):
    values = {"limit": 0.1, "steps": tuple(range(steps)), "location": place(5)}
    return ValueClipping(**values, cosines=(cosine,) * steps, shares=(share,) * steps)


def test_clipping_that_turns_the_gradient_is_noted():
    answer = judge("clip-by-value", clipping(0.4, 0.6))
    assert answer.findings[0].location.line == 5
    assert answer.verdict.outcome == "fail"


@pytest.mark.parametrize(("cosine", "share"), [(1.0, 0.0), (0.97, 0.2)])
def test_clipping_that_leaves_the_direction_passes(cosine, share):
    assert outcome("clip-by-value", clipping(cosine, share)) == "pass"


def test_rare_clipping_passes():
    rare = ValueClipping(limit=0.1, steps=(0, 1, 2, 3, 4), cosines=(0.5,) * 5, shares=(0.2, 0, 0, 0, 0))
    assert outcome("clip-by-value", rare) == "pass"


def test_few_or_useless_steps_are_left_open():
    assert outcome("clip-by-value", clipping(0.4, 0.6, steps=2)) == "inconclusive"
    assert outcome("clip-by-value", clipping(math.nan, 0.6)) == "inconclusive"


# --------------------------------------------------------------------------------------------------------- init-scale


def scale(stds, **changes):
    layers = [
        LayerScale(name=f"fc{i}", kind="Linear", std=std, activation="relu", fan_in=64, location=place(i + 1))
        for i, std in enumerate([*stds, 1.0])
    ]
    return ForwardScale(layers=tuple(layers), input_std=1.0, **changes)


def again(control, treated, looks=2):
    look = PairedReplay(start="initial", control=tuple(control), treated=tuple(treated))
    return Reinitialized(layers=7, looks=(look,) * looks, fidelity=0.0)


SHRINKING = [0.1, 0.01, 0.001, 1e-4, 1e-5]
STUCK = [0.65 + 0.02 * (step % 4) for step in range(50)]
LEARNING = [1.2 * 0.96**step for step in range(50)]


def test_a_fading_signal_fails_where_other_weights_help():
    answer = judge("init-scale", scale(SHRINKING), again(STUCK, LEARNING))
    finding = answer.findings[0]
    assert (finding.confidence, finding.location.line) == ("confirmed", 1)
    assert "fades from 0.1 to 1e-05" in finding.message


def test_a_growing_signal_fails_too():
    answer = judge("init-scale", scale(SHRINKING[::-1]), again([math.nan] * 50, LEARNING))
    assert "blows up" in answer.findings[0].message


@pytest.mark.parametrize(
    "experiment",
    [again(LEARNING, STUCK), again(LEARNING, [0.8 * loss for loss in LEARNING]), again(STUCK, LEARNING, looks=1)],
    ids=["worse", "a little better", "one look"],
)
def test_a_drift_that_does_no_harm_passes(experiment):
    assert outcome("init-scale", scale(SHRINKING), experiment) == "pass"


def test_an_even_signal_passes():
    assert outcome("init-scale", scale([1.0, 1.2, 0.9, 1.1])) == "pass"
    assert outcome("init-scale", scale([1.0, 0.01, 1.0, 0.02, 1.0])) == "pass"


def test_other_models_are_not_judged():
    assert outcome("init-scale", scale(SHRINKING, normalized=True)) == "not-applicable"
    assert outcome("init-scale", scale([0.1])) == "not-applicable"
    loaded = scale(SHRINKING)
    layers = tuple(layer.model_copy(update={"loaded": True}) for layer in loaded.layers)
    assert outcome("init-scale", loaded.model_copy(update={"layers": layers})) == "not-applicable"


def test_a_signal_that_fades_below_even_outputs():
    """Biases keep the outputs even, and gated sums are no plain chain: what differs between samples tells."""
    even = scale([0.5, 0.2, 0.1, 0.1, 0.1], residual=True)
    signals = [0.5, 0.03, 2e-3, 1e-4, 5e-6, 1e-6]
    layers = [layer.model_copy(update={"signal": size}) for layer, size in zip(even.layers, signals, strict=True)]
    faded = even.model_copy(update={"layers": tuple(layers)})
    assert "from 0.5 to 5e-06" in judge("init-scale", faded, again(STUCK, LEARNING)).findings[0].message
    assert judge("init-scale", even, again(STUCK, LEARNING)).findings == ()
    assert judge("init-scale", scale(SHRINKING, residual=True), again(STUCK, LEARNING)).findings == ()


def recurrent(gain, flat):
    layer = RecurrentScale(name="gru", kind="GRU", location=place(7), gain=gain, flat=flat)
    return ForwardScale(layers=(), recurrent=(layer,), normalized=True)


SLOWER = [0.6 * loss for loss in LEARNING]  # better, but no more than that


@pytest.mark.parametrize(
    ("experiment", "found"),
    [(again(STUCK, LEARNING), True), (again(LEARNING, SLOWER), True), (again(LEARNING, LEARNING), False)],
)
def test_recurrent_weights_that_are_too_large(experiment, found):
    chosen = experiment.model_copy(update={"extreme": ("gru",)})
    for rule in ("init-scale", "saturated-activations"):
        assert bool(judge(rule, recurrent(5.7, 0.2), chosen).findings) == found
    assert judge("saturated-activations", recurrent(5.7, 0.01), chosen).findings == ()
    assert judge("saturated-activations", recurrent(0.6, 0.2)).findings == ()


NEARLY = [0.8 * loss for loss in LEARNING]


def calmed(control, treated, looks=2, fidelity=0.0):
    look = PairedReplay(start="initial", control=tuple(control), treated=tuple(treated))
    return CalmedRecurrence(layers=("gru",), looks=(look,) * looks, fidelity=fidelity)


@pytest.mark.parametrize(
    ("experiment", "severity"),
    [
        (calmed(STUCK, LEARNING), "warning"),
        (calmed(LEARNING, NEARLY), "note"),
        (calmed(LEARNING, LEARNING), None),
        (calmed(LEARNING, NEARLY, looks=1), None),
        (calmed(STUCK, LEARNING, fidelity=0.5), None),
    ],
    ids=["stuck", "a little slower", "the same", "one look", "not repeatable"],
)
def test_a_recurrent_layer_that_its_inputs_saturate(experiment, severity):
    found = judge("saturated-activations", recurrent(0.6, 0.7), experiment).findings
    assert [str(each.severity) for each in found] == ([severity] if severity else [])
    assert judge("saturated-activations", recurrent(0.6, 0.1), experiment).findings == ()


def test_hidden_weights_of_an_odd_size():
    seen = scale([1.0, 1.1])
    layers = [layer.model_copy(update={"weight_std": 1.0}) for layer in seen.layers]
    seen = seen.model_copy(update={"layers": tuple(layers)})
    chosen = {"extreme": ("fc0",)}
    assert len(judge("init-scale", seen, again(STUCK, LEARNING).model_copy(update=chosen)).findings) == 1
    assert judge("init-scale", seen, again(LEARNING, SLOWER).model_copy(update=chosen)).findings == ()


def test_a_loss_that_comes_down_to_where_the_other_begins_makes_no_progress():
    high = [30 * 0.95**step for step in range(50)]
    assert len(judge("init-scale", scale(SHRINKING[::-1]), again(high, LEARNING)).findings) == 1


def test_a_signal_that_fades_by_dead_units_is_left_to_them():
    seen = scale(SHRINKING)
    usual = [layer.model_copy(update={"weight_std": 0.15}) for layer in seen.layers]
    dead = UnitActivity(name="fc1", units=8, dead=8, dead_start=8, dead_end=8, samples=999, active_share=0.0)
    for layers, found in ((seen.layers, 1), (tuple(usual), 0)):
        parts = (seen.model_copy(update={"layers": layers}), again(STUCK, LEARNING))
        assert len(judge("init-scale", *parts, Activations(steps=(0,), layers=(dead,))).findings) == found


def test_without_experiment_a_drift_is_left_open():
    assert outcome("init-scale", scale(SHRINKING)) == "inconclusive"
    assert outcome("init-scale", scale([0.1, 0.0, 0.1, 0.2])) == "inconclusive"


# ----------------------------------------------------------------------------------------------- saturated-activations


def saturated(start, end, samples=600):
    layer = SaturatedLayer(
        name="fc1",
        function="tanh",
        location=place(3),
        units=64,
        saturated_start=10,
        saturated_end=12,
        share_start=start,
        share_end=end,
        samples=samples,
    )
    return Saturation(steps=(0, 1, 2), layers=(layer,))


def test_saturated_layers_are_a_suspicion():
    answer = judge("saturated-activations", saturated(0.7, 0.65))
    assert (answer.findings[0].confidence, answer.findings[0].where) == ("suspected", "fc1")
    assert "65 % of the outputs" in answer.findings[0].message


def test_fewer_flat_outputs_are_enough_where_other_weights_help():
    (finding,) = judge("saturated-activations", saturated(0.4, 0.45), again(STUCK, LEARNING)).findings
    assert (finding.confidence, finding.since) == ("confirmed", 0)
    assert judge("saturated-activations", saturated(0.4, 0.45), again(LEARNING, LEARNING)).findings == ()
    assert judge("saturated-activations", saturated(0.1, 0.1), again(STUCK, LEARNING)).findings == ()


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.0), (0.1, 0.9), (0.9, 0.1)])
def test_saturation_at_one_end_of_the_run_passes(start, end):
    assert outcome("saturated-activations", saturated(start, end)) == "pass"


def test_few_samples_are_left_open():
    assert outcome("saturated-activations", saturated(0.9, 0.9, samples=20)) == "inconclusive"
