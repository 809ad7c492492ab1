"""DAT101 uncentered-inputs and DAT201 class-imbalance."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    Channel,
    ClassWeighted,
    Inputs,
    Labels,
    PairedReplay,
    StandardizedInputs,
    Tag,
    Tags,
    Trajectory,
)
from auditor.testing import judge, place


def inputs(**changes):
    """Grey images of 8 bits as floats."""
    given = {
        "kind": "image",
        "shape": (32, 1, 16, 16),
        "samples": 320,
        "mean": 180.0,
        "std": 18.0,
        "min": 40.0,
        "max": 255.0,
        "channels": (Channel(mean=180.0, std=18.0, min=40.0, max=255.0),),
        "worst_channel": 0,
        "first_layer": "conv1",
        "first_layer_kind": "Conv2d",
        "location": place(70),
    }
    return Inputs(**{**given, **changes})


def falling(start, end, steps=60, wobble=0.02):
    """From start to end, with a wobble that both arms share."""
    return tuple(start + (end - start) * min(1.0, 1.5 * i / steps) + wobble * math.sin(9.7 * i) for i in range(steps))


def look(control, treated, start="initial"):
    return PairedReplay(start=start, control=falling(*control), treated=falling(*treated))


STUCK = look((4.9, 1.41), (1.39, 1.15))  # the raw arm does not get below where the standardized one begins
HELPED = look((70.0, 2.4), (1.6, 0.25))
USELESS = look((1.6, 0.25), (1.6, 0.25))
SLIGHT = look((1.6, 0.50), (1.6, 0.44))


def uncentered(part, *looks, fidelity=0.0):
    parts = [StandardizedInputs(looks=looks, fidelity=fidelity)] if looks else []
    return judge("uncentered-inputs", part, *parts)


def test_confirmed_when_standardizing_helps():
    (finding,) = uncentered(inputs(), HELPED, HELPED).findings
    assert finding.severity == "error"
    assert finding.confidence == "confirmed"
    assert finding.location.line == 70
    assert "0.25" in finding.message
    assert "Normalize(mean=[180], std=[18])" in finding.fix


def test_confirmed_when_the_raw_arm_never_gets_going():
    assert uncentered(inputs(), STUCK, STUCK).findings[0].severity == "error"
    # extreme inputs need one look only
    assert uncentered(inputs(), STUCK).findings[0].severity == "error"


def test_one_look_on_inputs_that_are_not_extreme_warns():
    mild = inputs(kind="features", mean=12.0, std=8.0, min=0.0, max=30.0, channels=())
    assert uncentered(mild, HELPED).findings[0].severity == "warning"
    assert uncentered(mild, HELPED, HELPED).findings[0].severity == "error"


def test_a_later_look_cannot_refute():
    # Weights trained on raw inputs do worse when these are exchanged.
    later = look((1.4, 1.38), (9.0, 1.5), start="later")
    assert uncentered(inputs(), HELPED, later).findings[0].severity == "error"


@pytest.mark.parametrize("pair", [(USELESS, USELESS), (SLIGHT, SLIGHT), (HELPED, USELESS)])
def test_no_clear_help_passes(pair):
    answer = uncentered(inputs(), *pair)
    assert answer.verdict.outcome == "pass"
    assert "standardized" in answer.verdict.reason


def test_slower_learning_is_a_note():
    slower = look((1.6, 0.50), (1.6, 0.40))
    assert [finding.severity for finding in uncentered(inputs(), slower, slower).findings] == ["note"]
    assert not uncentered(inputs(), slower).findings
    assert not uncentered(inputs(), slower, SLIGHT).findings


def test_a_diverged_raw_arm_is_clear():
    gone = PairedReplay(start="initial", control=(5.0, 90.0) + (math.nan,) * 58, treated=falling(1.4, 0.4))
    assert uncentered(inputs(), gone, gone).findings[0].severity == "error"
    both = PairedReplay(start="initial", control=(math.nan,) * 60, treated=(math.nan,) * 60)
    assert uncentered(inputs(), both, both).verdict.outcome == "pass"


def test_extreme_inputs_warn_without_the_experiment():
    (finding,) = uncentered(inputs()).findings
    assert finding.severity is None  # the rule's own: warning
    assert finding.confidence == "suspected"
    assert uncentered(inputs(), HELPED, HELPED, fidelity=0.4).findings[0].severity is None


def test_suspicious_inputs_are_inconclusive_without_the_experiment():
    mel = inputs(kind="other", mean=-40.0, std=20.0, min=-80.0, max=0.0, channels=())
    answer = uncentered(mel)
    assert answer.verdict.outcome == "inconclusive"
    assert "experiment" in answer.verdict.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": 0.5, "std": 0.25, "min": 0.0, "max": 1.0, "channels": ()},  # images in [0, 1]
        {"mean": 0.0, "std": 1.0, "min": -4.0, "max": 4.0, "channels": ()},
        {"mean": 0.1, "std": 3.0, "min": -12.0, "max": 15.0, "channels": ()},
    ],
)
def test_harmless_inputs_pass(changes):
    assert uncentered(inputs(**changes)).verdict.outcome == "pass"


@pytest.mark.parametrize(
    "changes",
    [
        {"normalized_first": True},
        {"binary_share": 0.98, "min": 0.0, "max": 1.0},
        {"kind": "features", "zero_share": 0.95, "max": 31.0},
    ],
)
def test_normalized_and_sparse_inputs_are_not_judged(changes):
    assert uncentered(inputs(**changes), HELPED, HELPED).verdict.outcome == "not-applicable"


def test_constant_features_have_no_offset():
    channels = (Channel(mean=1.0, std=0.0, min=1.0, max=1.0), Channel(mean=0.0, std=1.0, min=-3.0, max=3.0))
    part = inputs(kind="features", mean=0.5, std=0.9, min=-3.0, max=3.0, channels=channels)
    assert uncentered(part).verdict.outcome == "pass"


def test_nan_inputs_are_inconclusive():
    assert uncentered(inputs(mean=math.nan, max=math.nan)).verdict.outcome == "inconclusive"


def labels(**changes):
    """Fraud: 4 % of the samples, never found."""
    given = {
        "classes": 2,
        "counts": (6140, 260),
        "complete": True,
        "seen": (2450, 110),
        "hits": (2450, 0),
        "predicted": (2560, 0),
        "location": place(45),
        "data_location": place(20),
    }
    return Labels(**{**given, **changes})


def imbalance(steps=60, **changes):
    losses = Trajectory(losses=(1.0,) * steps, learning_rates=(0.1,) * steps, grad_norms=(1.0,) * steps)
    return judge("class-imbalance", labels(**changes), losses)


def test_a_class_that_is_never_predicted_is_an_error():
    (finding,) = imbalance().findings
    assert finding.severity == "error"
    assert finding.confidence == "suspected"
    assert finding.location.line == 20
    assert "class 1 is never predicted: 0 of 110 samples" in finding.message
    assert finding.measured == pytest.approx(6140 / 260)


@pytest.mark.parametrize(
    ("control", "weighted", "severities"),
    [(0.502, 0.9, [None]), (0.62, 0.9, ["note"]), (0.62, 0.68, []), (0.5, 0.55, [])],
)
def test_masks_whose_rare_class_class_weights_find(control, weighted, severities):
    arms = ClassWeighted(control=(control,) * 120, weighted=(weighted,) * 120, classes=2, fidelity=0.0)
    answer = judge("class-imbalance", labels(per_position=True), arms)
    assert [finding.severity for finding in answer.findings] == severities
    assert all(finding.confidence == "confirmed" for finding in answer.findings)


@pytest.mark.parametrize(("weighted", "severities"), [(0.95, ["note"]), (0.65, [])])
def test_a_rare_class_that_is_found_now_and_then(weighted, severities):
    arms = ClassWeighted(control=(0.6,) * 120, weighted=(weighted,) * 120, classes=2, fidelity=0.0)
    answer = judge("class-imbalance", labels(hits=(2440, 50), predicted=(2500, 60)), arms)
    assert [finding.severity for finding in answer.findings] == severities


def test_a_class_that_is_only_predicted_wrongly():
    (finding,) = imbalance(predicted=(2550, 10), hits=(2440, 0)).findings
    assert "never predicted right" in finding.message


def test_no_better_than_the_majority_warns():
    (finding,) = imbalance(hits=(2440, 12), predicted=(2538, 22)).findings
    assert finding.severity is None  # the rule's own: warning
    assert "no better" in finding.message


def test_unequal_counts_alone_pass():
    assert imbalance(hits=(2440, 70), predicted=(2480, 80)).verdict.outcome == "pass"
    assert imbalance(counts=(900, 100), seen=(900, 100), hits=(900, 0)).verdict.outcome == "pass"


def test_counts_of_a_few_batches_carry_a_margin():
    # 1000 classes in 3840 labels: 12 to 1 by chance.
    counts = (12, 1, 4, 3, 5, 2, 4)
    assert imbalance(counts=counts, complete=False, seen=counts, hits=(0,) * 7).verdict.outcome == "pass"


def test_classes_that_do_not_occur_are_not_rare():
    assert imbalance(counts=(500, 500, 0), seen=(500, 500, 0), hits=(450, 450, 0)).verdict.outcome == "pass"
    assert imbalance(ignore_index=1).verdict.outcome == "not-applicable"


@pytest.mark.parametrize("changes", [{"per_position": True}, {"weighted_loss": True}, {"weighted_sampler": True}])
def test_labels_that_are_cared_for_are_not_judged(changes):
    assert imbalance(**changes).verdict.outcome == "not-applicable"


@pytest.mark.parametrize("changes", [{"seen": (400, 12)}, {"seen": ()}, {"hits": ()}, {"seen": (30, 25)}])
def test_too_few_samples_are_inconclusive(changes):
    assert imbalance(**changes).verdict.outcome == "inconclusive"


def test_too_few_steps_are_inconclusive():
    answer = imbalance(steps=8)
    assert answer.verdict.outcome == "inconclusive"
    assert "8 steps" in answer.verdict.reason


def tags(**changes):
    """Three labels of 30,000 samples: one in 75, one in 20 and one in 3."""
    counts = {"ones": (400, 1500, 9000), "seen": (130, 500, 3000), "hits": (0, 210, 2500), "answered": (0, 300, 2900)}
    counts |= {name: changes.pop(name) for name in tuple(changes) if name in counts}
    each = tuple(Tag(**dict(zip(counts, of_one, strict=True))) for of_one in zip(*counts.values(), strict=True))
    return judge(
        "class-imbalance", Tags(**{"steps": 470, "rows": 30_000, "tags": each, "location": place(45), **changes})
    )


def test_a_rare_tag_that_is_never_found_is_a_note():
    (finding,) = tags().findings
    assert (finding.severity, finding.where, finding.location.line) == ("note", "labels 0", 45)
    assert "130 samples" in finding.message


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"hits": (1, 210, 2500)}, "pass"),
        ({"hits": (1, 210, 0)}, "pass"),  # which is not rare
        ({"weighted": True}, "not-applicable"),
        ({"ones": (4000, 5000, 9000)}, "not-applicable"),
        ({"steps": 60}, "inconclusive"),
        ({"seen": (13, 12, 300)}, "inconclusive"),
    ],
)
def test_tags_that_are_found_or_too_few(changes, outcome):
    assert tags(**changes).verdict.outcome == outcome
