"""Sorted training data, augmentation that repeats itself."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from auditor.evidence import Augmentation, Labels, OrderControl, SampleOrder
from auditor.testing import judge, place


def order(*parts, **changes):
    given = {"loader": "train_loader", "sampler": "SequentialSampler", "sequential": True, "location": place(8)}
    given |= {"labels": (100,) * 10, "neighbours_equal": 990, "batch_classes": 1.3, "alikeness": 1.02}
    return judge("unshuffled-training-data", SampleOrder(**{**given, **changes}), *parts)


def test_sorted_labels_are_a_suspicion():
    (finding,) = order().findings
    assert (finding.confidence, finding.location.line, finding.where) == ("suspected", 8, "train_loader")
    assert "99.1 %" in finding.message
    assert "9.91 %" in finding.message or "9.9 %" in finding.message
    assert "1.3 of 10 classes" in finding.detail[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_random_order_passes(seed):
    draw = random.Random(seed)
    labels = [draw.randrange(4) for _ in range(1000)]
    equal = sum(a == b for a, b in itertools.pairwise(labels))
    counts = tuple(labels.count(label) for label in range(4))
    assert order(labels=counts, neighbours_equal=equal).verdict.outcome == "pass"


def test_the_p_value_is_that_of_permutations():
    import sys

    runs = sys.modules["auditor.rules.data.unshuffled_training_data"]._runs
    labels = [0] * 12 + [1] * 20 + [2] * 8
    draw, found = random.Random(3), []
    for _ in range(4000):
        draw.shuffle(labels)
        found.append(sum(a == b for a, b in itertools.pairwise(labels)))
    mean = sum(found) / len(found)
    deviation = math.sqrt(sum((each - mean) ** 2 for each in found) / len(found))
    chance, p_value = runs((12, 20, 8), round(mean + 2 * deviation))
    assert 39 * chance == pytest.approx(mean, rel=0.02)
    expected = sum(each >= round(mean + 2 * deviation) for each in found) / len(found)
    assert p_value == pytest.approx(expected, abs=0.02)


def test_some_class_order_passes():
    # Twice as many equal neighbours as by chance are significant, but not sorted.
    assert order(neighbours_equal=200).verdict.outcome == "pass"


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"shuffles": True, "sequential": False}, "pass"),
        ({"sequential": False, "sampler": "EasyFirst"}, "not-applicable"),  # a curriculum, buckets
        ({"alikeness": 0.3}, "not-applicable"),  # a time series
        ({"passes": 2, "compared": 300, "repeated": False}, "not-applicable"),
        ({"labels": ()}, "not-applicable"),  # regression, dense labels
        ({"alikeness": None}, "inconclusive"),
        ({"labels": (60, 60), "neighbours_equal": 118}, "inconclusive"),
        ({"labels": (600,), "neighbours_equal": 599}, "inconclusive"),
    ],
)
def test_other_orders(changes, outcome):
    assert order(**changes).verdict.outcome == outcome


def test_one_class_alone_fails_where_the_dataset_has_others():
    labels = Labels(classes=3, counts=(900, 900, 900), complete=True)
    (finding,) = order(labels, labels=(600,), neighbours_equal=599).findings
    assert "100 %" in finding.message


# -------------------------------------------------------------------------------------------------------- augmentation


def augmentation(**changes):
    given = {"loader": "train_loader", "workers": 2, "items": 24, "random": 24, "location": place(6)}
    given |= {"worker_items": 24, "epoch_items": 24, "delivered_items": 30}
    return judge("duplicated-augmentation", Augmentation(**{**given, **changes}))


def test_fresh_draws_pass():
    assert augmentation().verdict.outcome == "pass"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"worker_equal": 24}, "two workers of one epoch"),
        ({"epoch_equal": 24}, "the workers of two epochs"),
        ({"delivered_equal": 30}, "two passes of the loop"),
        ({"workers": 0, "worker_items": 0, "epoch_items": 0, "delivered_equal": 30}, "two passes of the loop"),
    ],
)
def test_repeated_draws_fail(changes, what):
    (finding,) = augmentation(**changes).findings
    assert (finding.confidence, finding.location.line) == ("confirmed", 6)
    assert what in finding.message


def test_what_else_repeats_is_a_detail():
    assert "two epochs" in augmentation(worker_equal=24, epoch_equal=24).findings[0].detail[0]


def test_one_difference_passes():
    assert augmentation(worker_equal=23, epoch_equal=23).verdict.outcome == "pass"


def test_a_coin_decides_nothing_over_few_samples():
    few = {"worker_items": 10, "worker_equal": 10, "random": 10, "chance": 0.5}
    assert augmentation(**few).verdict.outcome == "inconclusive"
    assert augmentation(worker_equal=24, chance=0.5).verdict.outcome == "fail"


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"random": 0}, "not-applicable"),
        ({"items": 3}, "inconclusive"),
        ({"workers": 0, "worker_items": 0, "epoch_items": 0, "delivered_items": 2}, "inconclusive"),
    ],
)
def test_too_little_to_tell(changes, outcome):
    assert augmentation(**changes).verdict.outcome == outcome


# ------------------------------------------------------------------------------- streams, and batches made by the loop

PURE = {"feed": "loop", "sequential": False, "sampler": "", "batches": 60, "purity": 0.98, "drift": 0.1}
HARM = OrderControl(natural=(4.0, 5.0), mixed=(0.6, 0.7), steps=60, level=1.6, fidelity=0.0)


@pytest.mark.parametrize(
    ("changes", "parts", "outcome"),
    [
        ({}, (HARM,), "fail"),
        ({}, (HARM.model_copy(update={"mixed": (3.9, 4.8)}),), "pass"),
        ({}, (HARM.model_copy(update={"fidelity": 0.5}),), "inconclusive"),
        ({}, (), "inconclusive"),
        ({"purity": 0.1}, (HARM,), "pass"),
        ({"purity": 0.1, "drift": 0.6, "drift_statistic": 400.0, "drift_freedom": 9}, (HARM,), "fail"),
        ({"purity": 0.1, "drift": 0.6, "drift_statistic": 12.0, "drift_freedom": 9}, (HARM,), "pass"),
        ({"alikeness": 0.3}, (HARM,), "not-applicable"),
        ({"feed": "loader", "sequential": True, "continuous": True}, (HARM,), "fail"),
        ({"feed": "stream", "purity": 0.1, "pass_drift": 0.8, "pass_samples": 4200}, (), "fail"),
        ({"feed": "stream", "purity": 0.1, "pass_drift": 0.2, "pass_samples": 4200}, (), "pass"),
    ],
)
def test_a_control_decides_where_no_sampler_tells(changes, parts, outcome):
    assert order(*parts, **{**PURE, **changes}).verdict.outcome == outcome


def test_a_dataset_that_seeds_every_sample_anew():
    (finding,) = augmentation(random=0, seeded=24, items=24, delivered_items=0, delivered_equal=0).findings
    assert "24 of 24 come out alike" in finding.message
    # where the loop got other variations in its second pass, the seed depends on something after all
    other = augmentation(random=0, seeded=24, items=24, delivered_items=40, delivered_equal=3)
    assert other.verdict.outcome == "not-applicable"


KEPT = {"sampler": "Buckets", "own": True, "sequential": False, "passes": 2, "compared": 400, "repeated": True}
KEPT |= {"drift": 0.8, "drift_statistic": 300.0, "drift_freedom": 3, "purity": 0.2}


@pytest.mark.parametrize(
    ("mixed", "severity"), [((3.0, 3.0), "warning"), ((3.8, 3.9), "note"), ((4.4, 4.4), None), ((5.0, 5.0), None)]
)
def test_whole_batches_in_another_order(mixed, severity):
    found = order(HARM.model_copy(update={"mixed": mixed, "whole": True}), **KEPT)
    assert found.verdict.outcome == ("fail" if severity else "pass")
    if severity:
        assert (found.findings[0].severity or "warning") == severity


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"repeated": False}, "not-applicable"),
        ({"passes": 1, "repeated": False, "compared": 0}, "not-applicable"),
        ({"drift": 0.1}, "pass"),
        ({"drift_statistic": 2.0}, "pass"),
    ],
)
def test_samplers_that_are_left_alone(changes, outcome):
    assert order(HARM.model_copy(update={"whole": True}), **{**KEPT, **changes}).verdict.outcome == outcome


def test_other_samples_in_a_batch_tell_nothing_of_whole_ones():
    assert order(HARM, **KEPT).verdict.outcome == "inconclusive"
