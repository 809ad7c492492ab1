"""Rules about normalization layers, on handmade evidence. A severity of None is the rule's own."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import BatchNorm, BatchNorms, DropoutShift, DropoutShifts, Loader, Program
from auditor.testing import judge, place


def norm(**changes):
    given = {"name": "bn", "kind": "BatchNorm1d", "location": place(7), "calls": 9, "rows": 32, "values": 32}
    return BatchNorm(**{**given, **changes})


def norms(*layers):
    return BatchNorms(steps=9, layers=layers)


def loader(**changes):
    given = {"name": "train_loader", "role": "training", "samples": 641, "batch_size": 32, "sampler": "RandomSampler"}
    return Program(loop="loader", loaders=(Loader(**{**given, **changes, "location": place(20)}),))


# ------------------------------------------------------------------------------------------------- norm-on-tiny-batch


def tiny(*parts):
    return judge("norm-on-tiny-batch", *parts)


def test_noisy_statistics_of_two_samples_are_a_warning():
    (finding,) = tiny(norms(norm(rows=2, values=2, noise=0.6), norm(rows=2, values=2, noise=0.2))).findings
    assert (finding.severity, finding.confidence, finding.measured) == (None, "suspected", 0.6)


@pytest.mark.parametrize(
    "layer",
    [
        {"rows": 32},
        {"rows": 2, "values": 8192, "noise": 0.01},  # large maps of images that are alike
        {"rows": 2, "processes": 8},
    ],
    ids=str,
)
def test_enough_values_pass(layer):
    assert tiny(norms(norm(**layer))).verdict.outcome == "pass"


def test_norms_without_running_statistics_are_not_concerned():
    assert tiny(norms(norm(rows=1, noise=2.0, tracked=False))).verdict.outcome == "not-applicable"


def test_too_few_calls_are_inconclusive():
    assert tiny(norms(norm(rows=2, calls=2, noise=0.6))).verdict.outcome == "inconclusive"
    assert tiny(norms(norm(rows=2, noise=None))).verdict.outcome == "inconclusive"
    assert tiny(norms(norm(rows=2, noise=math.nan))).verdict.outcome == "inconclusive"


def test_a_last_batch_of_one_sample_is_reported():
    (finding,) = tiny(norms(norm()), loader()).findings
    assert finding.location.line == 20
    assert "641 in batches of 32" in finding.message


@pytest.mark.parametrize(
    "changes",
    [{"drop_last": True}, {"samples": 640}, {"samples": 642}, {"role": "held-out"}, {"sampler": "Mine"}],
    ids=str,
)
def test_other_last_batches_pass(changes):
    assert tiny(norms(norm()), loader(**changes)).verdict.outcome == "pass"


def test_maps_of_one_image_do_not_raise():
    assert tiny(norms(norm(kind="BatchNorm2d", values=32 * 64)), loader()).verdict.outcome == "pass"


# -------------------------------------------------------------------------------------------------- frozen-norm-drift


def drift(**changes):
    given = {"frozen": True, "filled": True, "upstream_trained": False, "mean_shift": 0.8, "variance_ratio": 1.1}
    return judge("frozen-norm-drift", norms(norm(**{**given, **changes})))


def test_drift_of_a_frozen_norm_is_a_warning():
    (finding,) = drift().findings
    assert (finding.severity, finding.confidence, finding.location.line) == (None, "confirmed", 7)


def test_a_changed_variance_is_drift_too():
    assert drift(mean_shift=0.0, variance_ratio=3.0).verdict.outcome == "fail"


def test_behind_trained_layers_it_is_a_note():
    assert [finding.severity for finding in drift(upstream_trained=True).findings] == ["note"]


def test_statistics_that_stay_pass():
    assert drift(mean_shift=0.02, variance_ratio=1.05).verdict.outcome == "pass"
    assert drift(mean_shift=math.nan, variance_ratio=math.nan).verdict.outcome == "pass"


@pytest.mark.parametrize(
    "changes", [{"frozen": False}, {"filled": False}, {"tracked": False}, {"mean_shift": None}], ids=str
)
def test_other_norms_are_not_concerned(changes):
    assert drift(**changes).verdict.outcome == "not-applicable"


# ------------------------------------------------------------------------------------------------ dropout-before-norm


def shift(*ratios, samples=32, dropouts=1):
    layers = tuple(
        DropoutShift(norm=f"bn{i}", p=0.5, ratio=ratio, location=place(3), dropout_location=place(11))
        for i, ratio in enumerate(ratios)
    )
    part = DropoutShifts(samples=samples, dropouts=dropouts, norms=len(ratios), layers=layers)
    return judge("dropout-before-norm", part)


def test_a_shifted_variance_is_one_note_at_the_dropout():
    (finding,) = shift(1.05, 1.9).findings
    assert (finding.confidence, finding.where, finding.location.line) == ("confirmed", "bn1", 11)


def test_a_smaller_variance_counts_as_well():
    assert shift(0.5).verdict.outcome == "fail"


def test_a_light_dropout_passes():
    assert shift(1.08).verdict.outcome == "pass"


def test_no_dropout_or_no_norm():
    assert shift(dropouts=0).verdict.outcome == "not-applicable"
    assert shift().verdict.outcome == "not-applicable"


def test_few_samples_are_inconclusive():
    assert shift(1.9, samples=4).verdict.outcome == "inconclusive"


def test_nonsense_ratios_pass():
    assert shift(math.nan, math.inf).verdict.outcome == "pass"
