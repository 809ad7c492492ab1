"""shuffled-labels: the true labels against shuffles of themselves."""

from __future__ import annotations

import pytest

from auditor.evidence import (
    Augmentation,
    LabelControl,
    Location,
    OwnOrders,
    PairedLoaders,
    Source,
    TargetBlock,
    Unmirrored,
)
from auditor.judge import ask
from auditor.registry import rules
from auditor.testing import evidence

RULE = next(rule for rule in rules() if rule.name == "shuffled-labels")


def falling(to: float, steps: int = 200) -> tuple[float, ...]:
    return tuple(1.8 + (to - 1.8) * min(1.0, 2 * i / steps) for i in range(steps))


def control(real: float, shuffled: tuple[float, ...], samples: int = 512) -> LabelControl:
    return LabelControl(
        real=falling(real),
        shuffled=tuple(map(falling, shuffled)),
        samples=samples,
        level=1.79,
        observed=1.8,
        fidelity=0.0,
    )


SPREAD = (0.40, 0.43, 0.38, 0.41, 0.44, 0.39, 0.42, 0.37)


def outcome(part: LabelControl) -> str:
    return str(ask(RULE, evidence(part)).verdict.outcome)


@pytest.mark.parametrize("real", [0.40, 0.39, 0.42])
def test_labels_that_are_as_hard_as_random_ones(real: float) -> None:
    assert outcome(control(real, SPREAD)) == "fail"


def test_labels_that_are_easier() -> None:
    assert outcome(control(0.1, SPREAD)) == "pass"


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(control(1.75, (1.74, 1.76, 1.75, 1.75)), id="nothing was learned"),
        pytest.param(control(0.4, (0.1, 0.9, 0.2, 0.8)), id="the shuffles differ too much"),
        pytest.param(control(0.4, SPREAD, samples=40), id="too few samples"),
        pytest.param(control(0.4, SPREAD[:2]), id="too few shuffles"),
        pytest.param(control(0.9, SPREAD), id="the true labels are harder than random ones"),
        pytest.param(control(0.4, SPREAD).model_copy(update={"fidelity": 0.3}), id="the replay is not true"),
        pytest.param(control(float("nan"), SPREAD), id="not finite"),
    ],
)
def test_what_decides_nothing(part: LabelControl) -> None:
    assert outcome(part) == "inconclusive"


@pytest.mark.parametrize(("mispaired", "expected"), [(17, "fail"), (2, "inconclusive"), (0, "inconclusive")])
def test_labels_that_are_collated_in_another_order(mispaired: int, expected: str) -> None:
    drawn = Augmentation(loader="train", workers=0, items=24, random=0, collated=24, mispaired=mispaired)
    report = ask(RULE, evidence(drawn))
    assert report.verdict.outcome == expected
    assert all((each.severity, each.confidence) == ("error", "confirmed") for each in report.findings)


@pytest.mark.parametrize(("torn", "expected"), [(20, "fail"), (2, "inconclusive"), (0, "inconclusive")])
def test_images_turned_without_their_masks(torn: int, expected: str) -> None:
    drawn = Augmentation(loader="train", workers=0, items=24, random=24, turned=40, torn=torn)
    assert str(ask(RULE, evidence(drawn)).verdict.outcome) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, "fail"),
        ({"pairs": 2}, "inconclusive"),
        ({"samples": 30}, "inconclusive"),
        ({"correlation": 0.3}, "inconclusive"),
    ],
)
def test_images_mirrored_without_their_coordinates(found: dict[str, float], expected: str) -> None:
    sides = {"pairs": 20, "direction": "left to right", "value": 1, "samples": 120, "correlation": 0.8} | found
    drawn = Augmentation(loader="train", workers=0, items=24, random=24, unmirrored=Unmirrored.model_validate(sides))
    report = ask(RULE, evidence(drawn))
    assert str(report.verdict.outcome) == expected
    assert all(each.confidence == "suspected" for each in report.findings)


@pytest.mark.parametrize(("compared", "apart", "expected"), [(64, 63, "fail"), (64, 3, "other"), (16, 16, "other")])
def test_targets_from_a_loader_with_an_order_of_its_own(compared: int, apart: int, expected: str) -> None:
    part = PairedLoaders(inputs="a", targets="b", function="l1_loss", steps=6, compared=compared, apart=apart)
    report = ask(RULE, evidence(part))
    assert (str(report.verdict.outcome) == "fail") is (expected == "fail")
    assert all((each.confidence, each.since) == ("confirmed", 0) for each in report.findings)


def test_two_shuffles_in_the_source() -> None:
    first, second = Location(file="train.py", line=3), Location(file="train.py", line=4)
    source = Source(own_orders=(OwnOrders(inputs="x", targets="y", first=first, location=second),))
    (finding,) = ask(RULE, evidence(source)).findings
    assert finding.location == second
    assert finding.confidence == "suspected"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "fail"),
        ({"last": 0}, "inconclusive"),
        ({"last": 1050}, "inconclusive"),
        ({"inside": 0.4}, "inconclusive"),
        ({"own": 0.5}, "inconclusive"),  # another relation
        ({"outside": 0.3, "inside": 0.01}, "inconclusive"),
        ({"apart": 0.4}, "inconclusive"),  # another kind of rows
    ],
)
def test_a_block_of_rows_with_the_targets_of_others(changes: dict[str, float], expected: str) -> None:
    values = {"rows": 1600, "first": 1000, "last": 1600, "inside": 0.02, "own": 0.05, "outside": 0.8, "apart": 0.05}
    report = ask(RULE, evidence(TargetBlock(**{**values, **changes})))
    assert report.verdict.outcome == expected
    assert all(each.severity in (None, "warning") and each.confidence == "suspected" for each in report.findings)
