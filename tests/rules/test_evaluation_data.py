"""Rules about metrics, held-out data, splits and repeatable steps, on handmade evidence."""

from __future__ import annotations

import math

import pytest

from auditor.evidence import (
    BroadcastComparison,
    Choice,
    Comparisons,
    GroupOverlap,
    Groups,
    GroupSplit,
    HeldOutLoader,
    HeldOutPass,
    HeldOutPasses,
    ModelModes,
    Modes,
    NearDuplicates,
    Selection,
    SingleArgmax,
    StepRepeats,
    Trajectory,
)
from auditor.testing import judge, place


def outcome(rule, *parts):
    return judge(rule, *parts).verdict.outcome


# ------------------------------------------------------------------------------------------------ broadcast-in-metric


def test_every_prediction_with_every_label_fails():
    site = BroadcastComparison(
        function="==",
        left=(64,),
        right=(64, 1),
        calls=5,
        evaluation=True,
        known="both",
        paired=0.9,
        reported=33.5,
        location=place(20),
    )
    (finding,) = judge("broadcast-in-metric", Comparisons(compared=9, broadcast=(site,))).findings
    assert finding.location.line == 20
    assert "(64,) and (64, 1)" in finding.message
    assert "33.5" in finding.message
    assert finding.confidence == "confirmed"


def test_the_argmax_of_one_logit_fails():
    single = SingleArgmax(function="max", shape=(64, 1), calls=4, location=place(8), compared_location=place(9))
    (finding,) = judge("broadcast-in-metric", Comparisons(compared=4, single=(single,))).findings
    assert "0 for every sample" in finding.message
    assert "positive" in finding.fix


def test_ordinary_comparisons_pass():
    assert outcome("broadcast-in-metric", Comparisons(compared=12)) == "pass"


# ----------------------------------------------------------------------------------------- nondeterministic-validation


def held_out(**changes):
    given = {"loader": "val_loader", "location": place(5), "shuffled": False}
    return HeldOutPasses(loaders=(HeldOutLoader(**{**given, **changes}),))


PASSES = (HeldOutPass(step=20, samples=100, complete=True), HeldOutPass(step=40, samples=100, complete=True))
CUT = (PASSES[0], HeldOutPass(step=40, samples=40, complete=False))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"reread": 8, "changed": 8}, "fail"),
        ({"reread": 8, "changed": 0}, "pass"),
        ({"compared": 100, "same": 0, "found": 0, "passes": PASSES}, "fail"),
        ({"compared": 100, "same": 0, "found": 100, "passes": PASSES, "shuffled": True}, "pass"),
        ({"compared": 100, "same": 0, "found": 90, "passes": PASSES, "shuffled": True, "drop_last": True}, "fail"),
        ({"compared": 40, "same": 0, "found": 10, "passes": CUT, "shuffled": True}, "inconclusive"),
        ({"compared": 40, "same": 40, "found": 40, "passes": CUT}, "pass"),
        ({"compared": 2, "same": 0}, "inconclusive"),
        ({}, "inconclusive"),
    ],
)
def test_two_looks_at_the_held_out_data(changes, expected):
    assert outcome("nondeterministic-validation", held_out(**changes)) == expected


def test_no_held_out_loader():
    assert outcome("nondeterministic-validation", HeldOutPasses(loaders=())) == "not-applicable"


# -------------------------------------------------------------------------------------------------------- overfitting


def course(held, training, every=2):
    losses = tuple(loss for loss in training for _ in range(every))
    return Trajectory(
        losses=losses,
        learning_rates=(0.1,) * len(losses),
        grad_norms=(1.0,) * len(losses),
        held_out=tuple((every * (place + 1), loss) for place, loss in enumerate(held)),
    )


FALLING = [2.0 * 0.8**i for i in range(16)]
RISING = [1.5, 1.2, 1.0, *(1.0 + 0.05 * i for i in range(1, 13))]


def test_a_rising_held_out_loss_is_noted():
    (finding,) = judge("overfitting", course(RISING, FALLING)).findings
    assert "lowest after 6 steps" in finding.message
    assert finding.confidence == "suspected"


@pytest.mark.parametrize(
    ("held", "training", "expected"),
    [
        (FALLING[:15], FALLING, "pass"),
        (RISING[:6], FALLING, "inconclusive"),
        ([1.5, 1.0, *[1.0 + 0.002 * i for i in range(12)]], FALLING, "pass"),
        (RISING, FALLING[::-1], "pass"),  # both rise: it diverges
        ([], FALLING, "not-applicable"),
        ([math.nan, 1.0, math.inf], FALLING, "inconclusive"),
    ],
)
def test_courses_that_are_no_overfitting(held, training, expected):
    assert outcome("overfitting", course(held, training)) == expected


def test_an_evaluation_in_training_mode_does_not_count():
    modes = Modes(steps=60, models=(ModelModes(model="Net", evaluation_forwards=9, train_mode_evaluations=9),))
    assert outcome("overfitting", course(RISING, FALLING), modes) == "inconclusive"


# ------------------------------------------------------------------------------------------------------ group-leakage


def groups(shared, samples, training=40):
    splits = (
        GroupSplit(name="train", role="training", samples=400, groups=training),
        GroupSplit(name="val", role="held-out", samples=100, groups=20),
    )
    overlap = GroupOverlap(
        training="train",
        held_out="val",
        shared=shared,
        held_out_groups=20,
        samples=samples,
        held_out_samples=100,
        examples=("7", "9"),
    )
    return Groups(key="patient_id", splits=splits, overlaps=(overlap,) if shared else ())


def test_patients_on_both_sides_fail():
    (finding,) = judge("group-leakage", groups(5, 25)).findings
    assert "5 of 20 values of patient_id" in finding.message
    assert finding.measured == 0.25
    assert "7 and 9" in finding.detail[0]


def test_patients_on_one_side_pass():
    assert outcome("group-leakage", groups(0, 0)) == "pass"


def test_a_key_that_was_found_by_its_name_is_a_warning():
    found = groups(5, 25).model_copy(update={"declared": False})
    (finding,) = judge("group-leakage", found).findings
    assert (finding.severity, finding.confidence) == ("warning", "suspected")
    assert "have the same label" in finding.detail[-1]
    assert outcome("group-leakage", groups(0, 0).model_copy(update={"declared": False})) == "pass"


def test_one_group_is_no_key():
    assert outcome("group-leakage", groups(1, 100, training=1)) == "inconclusive"


# --------------------------------------------------------------------------------------------- near-duplicate-leakage


def near(**changes):
    given = {
        "training": "train_loader",
        "held_out": "val_loader",
        "kind": "image",
        "training_samples": 1600,
        "held_out_samples": 400,
        "compared": 400,
        "searched": 1600,
        "neighbours": 20,
        "dimension": 30.0,
        "chance": 1e-9,
        "ratio_limit": 0.35,
        "twins": 0,
    }
    return NearDuplicates(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"twins": 300}, "fail"),
        ({}, "pass"),
        ({"twins": 10}, "pass"),  # a fortieth
        ({"twins": 40, "dimension": 5.0, "chance": 0.1}, "pass"),  # as chance has it
        ({"twins": 300, "dimension": 2.0, "chance": 0.9}, "pass"),
        ({"twins": 300, "ordered": True}, "not-applicable"),
        ({"twins": 20, "compared": 20}, "inconclusive"),
        ({"twins": 300, "chance": math.nan}, "pass"),
    ],
)
def test_twins(changes, expected):
    assert outcome("near-duplicate-leakage", near(**changes)) == expected


# ------------------------------------------------------------------------------------------------- test-set-selection


def selection(*choices, **changes):
    given = {"loaders": ("test_loader",), "evaluated": "test_loader", "names": ("test_loader",), "evaluations": 3}
    return Selection(choices=choices, **{**given, **changes})


KEPT = Choice(what="checkpoint", metric="accuracy", location=place(33))


def test_the_best_epoch_by_the_test_set_is_noted():
    (finding,) = judge("test-set-selection", selection(KEPT)).findings
    assert finding.location.line == 33
    assert "by accuracy" in finding.message


@pytest.mark.parametrize(
    ("choices", "changes"),
    [
        ((), {}),
        ((KEPT,), {"loaders": ("test_loader", "val_loader")}),
        ((KEPT,), {"evaluated": "val_loader", "names": ("val_loader", "val_set")}),
        ((KEPT,), {"names": ("loader",)}),
        ((KEPT.model_copy(update={"metric": "train_loss"}),), {}),
        ((KEPT,), {"names": ("latest_loader",)}),
    ],
)
def test_choices_that_pass(choices, changes):
    assert outcome("test-set-selection", selection(*choices, **changes)) == "pass"


def test_where_another_set_decides_nothing():
    both = {"loaders": ("test_loader", "val_loader")}
    by_test = KEPT.model_copy(update={"by": ("test_loader",)})
    (finding,) = judge("test-set-selection", selection(by_test, **both)).findings
    assert "test_loader is test data" in finding.message
    for by in (("val_loader",), ("val_loader", "test_loader"), ("",), ("loader",)):
        assert outcome("test-set-selection", selection(KEPT.model_copy(update={"by": by}), **both)) == "pass"


@pytest.mark.parametrize(
    ("metric", "by", "expected"),
    [
        ("outcome.test", ("val_loader", "test_loader"), "fail"),
        ("outcome.test", ("loaders 1", "loaders 2"), "fail"),
        ("outcome.valid", ("val_loader", "test_loader"), "pass"),
        ("latest_accuracy", ("val_loader", "test_loader"), "pass"),
        ("test_loss", ("val_loader",), "pass"),  # of a function called test
        ("test_loss", ("val_loader", "val_other"), "pass"),
    ],
)
@pytest.mark.parametrize("loaders", [("test_loader", "val_loader"), ()])
def test_the_score_of_the_test_set_among_several(metric, by, expected, loaders):
    choice = KEPT.model_copy(update={"metric": metric, "by": by})
    part = selection(choice, loaders=loaders, names=("val_loader",))
    assert outcome("test-set-selection", part) == expected


def test_an_official_test_split_counts_whatever_it_is_called():
    part = selection(Choice(what="schedule", metric="ReduceLROnPlateau"), names=("val_loader",), official=True)
    assert outcome("test-set-selection", part) == "fail"


# ------------------------------------------------------------------------------------------------ nondeterministic-step


@pytest.mark.parametrize(
    ("losses", "prints", "expected"),
    [
        (((1.0, 0.9), (1.0, 0.9)), ("a", "a"), "pass"),
        (((1.0, 0.9), (1.0, 0.9 + 1e-7)), ("a", "b"), "fail"),
        (((1.0, 0.9), (1.0, 0.9)), ("a", "b"), "fail"),
        (((1.0, 0.9), (1.0, 0.7)), ("a", "b"), "inconclusive"),
        (((1.0, 0.9),), ("a",), "inconclusive"),
        (((math.nan, 1.0), (math.nan, 1.0)), ("a", "a"), "pass"),
    ],
)
def test_two_replays(losses, prints, expected):
    repeats = StepRepeats(steps=2, losses=losses, gradient_prints=prints, device="cpu")
    assert outcome("nondeterministic-step", repeats) == expected
