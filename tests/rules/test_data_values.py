"""The rules on values of the data: scales, identities, targets, labels."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    Batches,
    Channel,
    Crash,
    Inputs,
    Labels,
    LossSite,
    LossSites,
    Nonfinite,
    NonfiniteBatch,
    PairedReplay,
    Run,
    StandardizedInputs,
    StandardizedTargets,
    Targets,
)
from auditor.testing import judge, place


def falling(start, end, steps=40):
    return tuple(start + (end - start) * min(1.0, 1.5 * i / steps) + 0.01 * math.sin(9.7 * i) for i in range(steps))


def look(control, treated):
    return PairedReplay(start="initial", control=falling(*control), treated=falling(*treated))


HELPED, SAME, WORSE = look((2.0, 1.6), (0.9, 0.3)), look((2.0, 0.5), (2.0, 0.5)), look((2.0, 0.5), (2.0, 1.5))
UNMOVED = PairedReplay(start="initial", control=falling(0.70, 0.69), treated=falling(0.70, 0.68))
FASTER = look((2.0, 0.6), (2.0, 0.3))


def table(**changes):
    given = {"kind": "features", "shape": (64, 6), "samples": 320, "mean": 0.0, "std": 1.0, "min": -4.0, "max": 4.0}
    given |= {"scale_ratio": 5e4, "widest": 1, "narrowest": 4, "location": place(30), "first_layer": "0"}
    return Inputs(**{**given, **changes})


def image(**changes):
    given = {"kind": "image", "shape": (32, 1, 16, 16), "samples": 160, "mean": 0.002, "std": 0.0007, "min": 0.0}
    given |= {"max": 0.0039, "channels": (Channel(mean=0.002, std=0.0007, min=0.0, max=0.0039),), "location": place(9)}
    return Inputs(**{**given, **changes})


# ---------------------------------------------------------------------------------------------- feature-scale-mismatch


def mismatch(inputs, first=None, rescaled=None, fidelity=0.0):
    parts = [StandardizedInputs(looks=(first,), rescaled=rescaled, fidelity=fidelity)] if first else []
    return judge("feature-scale-mismatch", inputs, *parts)


def test_equal_scales_that_help_confirm_it():
    (finding,) = mismatch(table(), HELPED, HELPED).findings
    assert finding.severity == "error"
    assert "feature 1" in finding.message
    assert "feature 4" in finding.message


def test_scales_that_slow_the_loop_are_a_note():
    slower = PairedReplay(start="initial", control=falling(1.6, 0.50), treated=falling(1.6, 0.40))
    assert [finding.severity for finding in mismatch(table(), slower, slower).findings] == ["note"]


@pytest.mark.parametrize(
    ("inputs", "first", "rescaled", "outcome"),
    [
        (table(scale_ratio=30.0), None, None, "pass"),
        (table(), SAME, None, "pass"),
        (table(), UNMOVED, None, "inconclusive"),
        (table(), HELPED, SAME, "pass"),
        (table(), HELPED, None, "inconclusive"),
        (table(), None, None, "inconclusive"),
        (table(normalized_first=True), HELPED, HELPED, "not-applicable"),
        (table(scale_ratio=None), HELPED, HELPED, "not-applicable"),
        (image(), HELPED, HELPED, "not-applicable"),
    ],
)
def test_scales_that_are_no_matter(inputs, first, rescaled, outcome):
    assert mismatch(inputs, first, rescaled).verdict.outcome == outcome


# -------------------------------------------------------------------------------------------------- inputs-scaled-twice


def test_grey_values_that_lie_too_close_prove_the_second_division():
    (finding,) = judge("inputs-scaled-twice", image(grey_step=1 / 255**2)).findings
    assert finding.confidence == "confirmed"
    assert finding.location.line == 9


def test_a_normalization_behind_the_second_division_hides_nothing():
    assert judge("inputs-scaled-twice", image(min=-2.1, max=-2.0, grey_step=3e-5)).verdict.outcome == "fail"


@pytest.mark.parametrize(
    ("inputs", "looks", "outcome"),
    [
        (image(grey_step=1 / 255, max=1.0), (), "pass"),
        (image(max=1.0), (), "pass"),
        (image(), (), "inconclusive"),
        (image(), (HELPED,), "fail"),
        (image(), (SAME,), "pass"),
        (image(max=0.0), (), "pass"),
        (image(shape=(32, 1, 200)), (HELPED,), "not-applicable"),
        (image(shape=(32, 1, 1, 200)), (HELPED,), "not-applicable"),
        (image(shape=(32, 64, 8, 8)), (HELPED,), "not-applicable"),
        (image(normalized_first=True, grey_step=1e-5), (), "not-applicable"),
        (image(max=math.nan), (), "inconclusive"),
    ],
)
def test_images_of_other_kinds(inputs, looks, outcome):
    parts = [StandardizedInputs(looks=looks)] if looks else []
    assert judge("inputs-scaled-twice", inputs, *parts).verdict.outcome == outcome


# ----------------------------------------------------------------------------------------------------- nonfinite-inputs

GAP = NonfiniteBatch(place="0", batch=3, nan=2, infinite=0, sample=7, feature=5, features=1)
SUFFERED = Nonfinite(steps_checked=60, first_step=3, what="loss")


def handed(*gaps, **changes):
    given = {"loader": "train_loader", "batches": 60, "rows": 3840, "nonfinite": gaps, "nonfinite_batches": len(gaps)}
    return Batches(**{**given, "location": place(20), **changes})


def test_nan_that_reaches_the_loss_is_located():
    (finding,) = judge("nonfinite-inputs", handed(GAP), SUFFERED).findings
    assert "batch 3, row 7, column 5" in finding.message
    assert "inputs" in finding.message
    assert finding.location.line == 20


def test_running_statistics_are_spoilt_where_the_loop_skips_the_loss():
    spoilt = Nonfinite(steps_checked=60, spoilt=("1", "norm"))
    (finding,) = judge("nonfinite-inputs", handed(GAP), spoilt).findings
    assert "layer 1 and norm" in finding.detail[-1]
    assert judge("nonfinite-inputs", handed(GAP.model_copy(update={"target": True})), spoilt).verdict.outcome == "pass"
    assert judge("nonfinite-inputs", table(nonfinite=3), spoilt).verdict.outcome == "fail"


def test_targets_are_told_apart():
    (finding,) = judge("nonfinite-inputs", handed(GAP.model_copy(update={"target": True})), SUFFERED).findings
    assert "targets" in finding.message


@pytest.mark.parametrize("parts", [(handed(GAP),), (handed(GAP), Nonfinite(steps_checked=60)), (handed(), SUFFERED)])
def test_gaps_that_are_masked_and_losses_that_break_by_themselves_pass(parts):
    assert judge("nonfinite-inputs", *parts).verdict.outcome == "pass"


def test_without_a_loader_the_model_input_counts():
    assert judge("nonfinite-inputs", table(nonfinite=3), SUFFERED).verdict.outcome == "fail"
    assert judge("nonfinite-inputs", SUFFERED).verdict.outcome == "not-applicable"


@pytest.mark.parametrize(
    ("changes", "severities"),
    [
        ({"nonfinite_batches": 20, "lost": 20}, [None]),  # the rule's own: an error
        ({"nonfinite_batches": 3, "lost": 3}, ["warning"]),
        ({"nonfinite_batches": 1, "lost": 1}, []),  # one bad batch is what such a guard is for
        ({"nonfinite_batches": 20, "lost": 4}, []),  # the others were trained on: their gaps are filled
        ({"nonfinite_batches": 20, "lost": 20, "lost_whole": 30}, []),  # something else throws batches away
    ],
)
def test_batches_that_are_given_up(changes, severities):
    findings = judge("nonfinite-inputs", handed(GAP, **changes), Nonfinite(steps_checked=60)).findings
    assert [finding.severity for finding in findings] == severities
    assert all("given up" in finding.message for finding in findings)


def test_targets_of_a_loop_without_a_loader():
    broken = SUFFERED.model_copy(update={"target_nonfinite": True, "loss_location": place(31)})
    (finding,) = judge("nonfinite-inputs", table(), broken).findings
    assert finding.location.line == 31


# ---------------------------------------------------------------------------------------------------- constant-features


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"features": 12, "constant": (4, 7), "constants": 2}, "fail"),
        ({"features": 12, "constant": (4, 7), "constants": 2, "rows": 300}, "inconclusive"),
        ({"features": 12}, "pass"),
        ({}, "not-applicable"),
    ],
)
def test_constant_columns(changes, outcome):
    assert judge("constant-features", handed(**changes)).verdict.outcome == outcome


# ----------------------------------------------------------------------------------------------------- unscaled-targets


def targets(**changes):
    given = {"function": "mse_loss", "values": 1920, "mean": 2.3e5, "std": 9.6e4, "min": 5e4, "max": 5e5}
    return Targets(**{**given, "location": place(50), **changes})


def scaled(*looks, fidelity=0.0):
    return StandardizedTargets(looks=looks, mean=2.3e5, std=9.6e4, fidelity=fidelity)


@pytest.mark.parametrize(
    ("looks", "severity"),
    [
        ((HELPED, HELPED), "error"),
        ((HELPED,), "warning"),
        ((HELPED, SAME), None),
        ((WORSE,), None),
        ((FASTER, FASTER), "note"),
        ((FASTER,), None),
    ],
)
def test_the_experiment_decides_on_targets(looks, severity):
    findings = judge("unscaled-targets", targets(), scaled(*looks)).findings
    assert [finding.severity for finding in findings] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("parts", "outcome"),
    [
        ((targets(mean=0.1, std=1.0),), "pass"),
        ((targets(),), "inconclusive"),
        ((targets(mean=0.0, std=1e-4),), "inconclusive"),
        ((targets(std=0.0),), "not-applicable"),
        ((targets(std=math.nan),), "inconclusive"),
        ((targets(), scaled(HELPED, fidelity=0.4)), "inconclusive"),
    ],
)
def test_targets_without_a_verdict(parts, outcome):
    assert judge("unscaled-targets", *parts).verdict.outcome == outcome


# ------------------------------------------------------------------------------------------------------- invalid-labels


def site(low, high, function="binary_cross_entropy_with_logits"):
    return LossSites(
        sites=(LossSite(function=function, calls=8, target_min=low, target_max=high, targets=512, location=place(44)),)
    )


def labels(counts, held=(), **changes):
    return Labels(classes=len(counts), counts=counts, held_out_counts=held, complete=True, **changes)


@pytest.mark.parametrize(("low", "mean", "found"), [(0.0, 0.4, 1), (-1.0, 0.1, 0), (1.0, 1.0, 0)])
def test_zero_is_no_label_of_a_margin(low, mean, found):
    (seen,) = site(low, 1.0, "soft_margin_loss").sites
    given = LossSites(sites=(seen.model_copy(update={"target_mean": mean}),))
    assert len(judge("invalid-labels", given).findings) == found


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-1.0, 1.0), (1.0, 2.0)])
def test_targets_outside_of_the_loss(low, high):
    (finding,) = judge("invalid-labels", site(low, high)).findings
    assert finding.location.line == 44


@pytest.mark.parametrize(
    "part",
    [site(0.0, 1.0), site(0.05, 0.95), site(-3.0, 3.0, "mse_loss"), labels((400, 380)), labels((30, 0, 5), (9, 9, 9))],
)
def test_labels_within_their_loss(part):
    assert judge("invalid-labels", part).verdict.outcome in ("pass", "not-applicable")


def test_one_class_and_a_class_that_only_the_test_has():
    assert "class 1" in judge("invalid-labels", labels((0, 900))).findings[0].message
    (finding,) = judge("invalid-labels", labels((500, 500, 0), (100, 100, 100))).findings
    assert "class 2" in finding.message
    partly = labels((500, 500, 0), (100, 100, 100)).model_copy(update={"complete": False})
    assert judge("invalid-labels", partly).verdict.outcome == "pass"


def test_labels_that_are_counted_from_one():
    (finding,) = judge("invalid-labels", labels((0, 300, 40, 25))).findings
    assert (finding.severity, finding.where) == ("note", "class 0")


@pytest.mark.parametrize(
    "part",
    [
        labels((0, 300, 40, 5)),  # one that is rare may be absent by chance, and so may class 0
        labels((0, 300, 0, 250)),
        labels((0, 300, 40, 25), (6, 90, 20, 10)).model_copy(update={"complete": False}),
        labels((0, 300, 40, 25), per_position=True),
        labels((0, 300, 40, 25), ignore_index=0),
        labels((0, 300, 40, 25), class_weights=(0.0, 1.0, 1.0, 1.0)),
    ],
)
def test_class_0_may_be_absent(part):
    assert all(each.where != "class 0" for each in judge("invalid-labels", part).findings)


def test_a_label_out_of_bounds_that_ended_the_script():
    crash = Crash(kind="IndexError", message="Target 10 is out of bounds.", location=place(61))
    (finding,) = judge("invalid-labels", Run(target="train.py", crash=crash)).findings
    assert finding.location.line == 61
    other = Crash(kind="ValueError", message="math domain error")
    assert judge("invalid-labels", Run(target="train.py", crash=other)).verdict.outcome == "not-applicable"
